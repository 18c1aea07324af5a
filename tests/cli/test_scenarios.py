from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from dkd.scenario import catalogue
from dkd.scenario.parsing import load

Command = Callable[..., Result]
Refused = Callable[..., str]


def test_the_table_holds_every_scenario_and_figure(dkd: Command) -> None:
    result = dkd("scenarios")
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    for name in catalogue.documents():
        assert name in rows
    assert "9568 487 299 491 500 548" in rows["voc-15-1"]
    assert "57.46 / 70.50" in rows["voc-15-1"]
    assert "64.09 / 72.95" in rows["voc-15-1"]
    assert "100 5x10" in rows["ade-100-10"]
    assert rows["voc-15-1-partitioned"].split()[1] == "partitioned"


def test_one_in_full_with_commands_to_run_it(dkd: Command) -> None:
    shown = dkd("scenarios", "voc-15-1", "--data", "/data/VOC2012").stdout
    assert "dkd data check /data/VOC2012 --format voc --published" in shown
    assert "dkd run voc-15-1 --variant DKD-M --data /data/VOC2012" in shown
    assert "2     299              1329         sheep" in shown


@pytest.mark.parametrize("name", list(catalogue.documents()))
def test_yaml_is_what_run_accepts(dkd: Command, tmp_path: Path, name: str) -> None:
    data = () if name == "demo" else ("--data", "/data")
    result = dkd("scenarios", name, "--yaml", *data)
    assert "placeholder" not in result.output
    file = tmp_path / "shown.yaml"
    file.write_text(result.stdout)
    expected = catalogue.scenario(name, {"data.root": "/data"} if data else {})
    assert load(file) == expected


def test_yaml_without_data_says_that_its_place_is_a_placeholder(
    dkd: Command, tmp_path: Path
) -> None:
    result = dkd("scenarios", "ade-50-50", "--yaml")
    assert result.stdout.startswith("# data.root is a placeholder")
    (tmp_path / "shown.yaml").write_text(result.stdout)
    assert load(tmp_path / "shown.yaml").data.root == "/path/to/ADEChallengeData2016"


def test_unknown_names_are_refused(refused: Refused) -> None:
    assert refused("scenarios", "voc-1-1").startswith("scenario 'voc-1-1': none of demo")
    assert refused("scenarios", "--yaml").startswith("--yaml: name the scenario")
