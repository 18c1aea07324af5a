"""``dkd models``, from the first version to the way back."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from made_results import FAILED, finished

from dkd.cli import main


@pytest.fixture
def dkd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DKD_USER", "Ada")
    monkeypatch.delenv("DKD_MODEL_REGISTRY", raising=False)
    words = ("--root", str(tmp_path / "root"), "--workspace", str(tmp_path / "workspace"))
    finished(str(tmp_path / "root"), "one", "road", "car")

    def call(*given: str) -> Result:
        return CliRunner().invoke(main, ["models", *given, *words])

    return call


def test_from_a_run_to_production_and_back(dkd, tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    assert "no models" in dkd("list").output
    (line,) = dkd("add", "street", "one").output.splitlines()
    assert line.startswith("model street version 1: Gate: passed, ")
    assert "version 1 in production" in dkd("promote", "street", "1").output
    first = json.loads(dkd("show", "street", "--json").output)
    assert first["by"] == "Ada"
    second = finished(root, "two", "road", "car", "sheep", gate=(FAILED,))
    assert second.steps[-1].checkpoint is not None
    dkd("add", "street", "two")
    listed = dkd("list", "street").output.splitlines()
    assert [line.split()[:2] for line in listed[1:]] == [
        ["1", "production"],
        ["2", listed[2].split()[1]],
    ]
    assert listed[2].split()[-1] == "failed"
    differs = dkd("diff", "street").output
    assert "sheep" in differs
    assert "Gate: failed, sheep 12.3 < 20" in differs
    refused = dkd("promote", "street", "2")
    assert refused.exit_code == 2
    assert "--despite-gate REASON" in refused.output
    done = dkd("promote", "street", "2", "--despite-gate", "sheep are rare")
    assert "version 2 in production instead of version 1" in done.output
    shown = dkd("show", "street").output
    assert shown.startswith("street version 2, in production")
    assert "despite that: sheep are rare" in shown
    assert "| sheep |" in shown
    page = tmp_path / "card.html"
    assert dkd("show", "street", "--card", str(page)).exit_code == 0
    assert "<h2>Limits</h2>" in page.read_text()
    assert "version 1 back in production instead of version 2" in dkd("rollback", "street").output
    assert [line.split() for line in dkd("list").output.splitlines()][1][:3] == ["street", "1", "2"]


def test_a_version_and_then_its_run_are_removed(dkd, tmp_path: Path) -> None:
    """Whichever goes first: what they share goes with the last of them."""
    finished(str(tmp_path / "root"), "two", "road", "car", "bus")
    for run in ("one", "two"):
        dkd("add", "street", run)
    dkd("promote", "street", "2")
    refused = dkd("rm", "street", "2", "--yes")
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1].startswith("dkd: model street: version 2 is in product")
    checkpoint = Path(json.loads(dkd("show", "street", "1", "--json").output)["checkpoint"]["uri"])
    root = tmp_path / "root"
    words = ("--root", str(root), "--workspace", str(tmp_path / "workspace"), "--yes")
    gone = CliRunner().invoke(main, ["runs", "rm", "one", *words])
    assert f"checkpoints/{checkpoint.name}: model street version 1" in gone.output
    shown = dkd("rm", "street", "1")
    assert "nothing is removed without --yes" in shown.output
    assert checkpoint.exists()
    done = dkd("rm", "street", "1", "--yes")
    assert done.output.splitlines()[-1].startswith("model street version 1 removed, ")
    assert not checkpoint.exists()
    assert len(dkd("list", "street").output.splitlines()) == 2
    again = dkd("show", "street", "1")
    assert "version 1 was removed, " in again.output
    assert "by Ada" in again.output


def test_a_version_in_production_that_was_deleted_otherwise_is_named(dkd, tmp_path: Path) -> None:
    dkd("add", "street", "one")
    finished(str(tmp_path / "root"), "two", "road", "car")
    dkd("add", "street", "two")
    dkd("promote", "street", "2")
    (tmp_path / "root/models/street/versions/000002.json").unlink()
    for words in (("list",), ("list", "street"), ("show", "street")):
        (line,) = dkd(*words).stderr.splitlines()
        assert line == (
            "dkd: model street: version 2, in production, has no document any more; restore it "
            "from a backup, or promote another version"
        )
    assert dkd("promote", "street", "1").exit_code == 0
    assert dkd("show", "street").output.startswith("street version 1, in production")


@pytest.mark.parametrize("words", [(), ("one", "--checkpoint", "c"), ("one", "--memory", "m")])
def test_a_version_is_of_a_run_or_of_a_checkpoint(dkd, words: tuple[str, ...]) -> None:
    refused = dkd("add", "street", *words)
    assert refused.exit_code == 2
    assert refused.stderr.startswith("dkd: name what becomes a version: a finished RUN, or ")


def test_a_version_without_a_card_is_shown(dkd, tmp_path: Path) -> None:
    dkd("add", "street", "one")
    checkpoint = Path(json.loads(dkd("show", "street", "--json").output)["checkpoint"]["uri"])
    (checkpoint / "card.md").unlink()
    shown = dkd("show", "street")
    assert shown.exit_code == 0
    assert shown.output.startswith("street version 1, not in production")
    assert shown.output.splitlines()[-1].startswith(f"note: {checkpoint}: has no card; ")
