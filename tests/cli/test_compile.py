from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import Result

Command = Callable[..., Result]
Refused = Callable[..., str]


def read(path: Path) -> tuple[dict, str]:
    """The compiled pipeline, and the scenario inside."""
    document = next(iter(yaml.safe_load_all(path.read_text())))
    tasks = document["root"]["dag"]["tasks"]
    scenario = tasks["step-0"]["inputs"]["parameters"]["scenario"]
    return document, scenario["runtimeValue"]["constant"]


def test_default_name_and_placeholder_are_told(dkd: Command, tmp_path: Path) -> None:
    result = dkd("compile", "voc-15-5", "--variant", "DKD-M")
    assert result.exit_code == 0, result.output
    assert result.stdout == "voc-15-5-dkd-m.yaml\n"
    assert "placeholder" in result.stderr
    document, scenario = read(tmp_path / "voc-15-5-dkd-m.yaml")
    assert document["pipelineInfo"]["name"] == "dkd-voc-15-5-dkd-m"
    assert "s3://your-bucket/datasets/voc" in scenario
    assert '"memory_size":100' in scenario


def test_data_and_fields_reach_the_pipeline(dkd: Command, tmp_path: Path) -> None:
    result = dkd(
        "compile",
        "voc-15-5",
        "--data",
        "s3://b/voc",
        "--set",
        "seed=7",
        "-o",
        "sub/p.yaml",
        "--launcher-image",
        "r/launcher@sha256:1",
    )
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    _, scenario = read(tmp_path / "sub" / "p.yaml")
    assert '"format":"packed","root":"s3://b/voc"' in scenario
    assert '"seed":7' in scenario


@pytest.mark.parametrize("words", [("voc-15-5", "--data", "s3://b/voc"), ("add-classes",)])
def test_an_image_that_nobody_can_pull_is_told(dkd: Command, words: tuple[str, ...]) -> None:
    (line,) = dkd("compile", *words).stderr.splitlines()
    assert line.startswith("the components' image is dkd-launcher:")
    assert line.endswith("or name one that they can pull (--launcher-image)")


def test_a_scenario_file_compiles(dkd: Command, tmp_path: Path) -> None:
    shown = dkd("scenarios", "demo", "--yaml")
    (tmp_path / "own.yaml").write_text(shown.stdout.replace("name: demo", "name: own.v2"))
    assert dkd("compile", "own.yaml").exit_code == 0
    document, _ = read(tmp_path / "own.v2.yaml")
    assert document["pipelineInfo"]["name"] == "dkd-own-v2"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "SCENARIO: name a scenario"),
        (("nope",), "scenario 'nope': neither a file nor one of demo, voc-19-1"),
        (("gone.yaml",), "gone.yaml: No such file or directory"),
        (("demo", "--variant", "x"), "variant 'x': scenario demo has finetune, DKD, DKD-M, joint"),
        (("voc-15-1", "--set", "training.crop=1"), "training.crop"),
        (("voc-15-1", "--set", "data.root=5"), "data.root"),
        (("voc-15-1", "--set", "crop=64"), "crop: no such field"),
        (("voc-15-1", "--set", "method"), "--set method: write FIELD=VALUE"),
        (("demo", "--all", "folder"), "--all: writes every published scenario"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    refused: Refused, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    assert message in refused("compile", *words)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_named(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert f"{tmp_path}/file" in refused("compile", "demo", "-o", tmp_path / "file" / "p.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
