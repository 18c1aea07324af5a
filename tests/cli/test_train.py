"""``dkd train``: the stages of steps, one after the other; artifacts in a folder."""

from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from dkd.storage import artifacts

Command = Callable[..., Result]
Refused = Callable[..., str]


def test_train_makes_each_stage_of_both_steps(trained: dict[str, str]) -> None:
    stages = [f"{step} {stage}" for step in (0, 1) for stage in ("train", "evaluate", "memory")]
    assert list(trained) == stages
    last = artifacts.load(trained["1 train"])
    assert last.metadata["run"] == "squares-dkd"
    assert last.metadata["teacher"]["uri"] == trained["0 train"]
    assert last.metadata["memory"]["uri"] == trained["0 memory"]


def test_train_finds_what_is_there(dkd: Command, trained: dict[str, str], place: Path) -> None:
    words = ("--step", 0, "--root", place / "root", "--run-name", "another")
    result = dkd("train", place / "squares.yaml", *words)
    assert result.exit_code == 0, result.output
    assert "step 0 train: found, made by run squares-dkd" in result.stdout
    assert trained["0 train"] in result.stdout


def test_training_shows_a_bar_on_a_terminal(
    in_terminal: Callable[..., str], place: Path, tmp_path: Path
) -> None:
    """What training prints is what the bar is moved by."""
    words = ("train", place / "squares.yaml", "--step", 0, "--root", tmp_path / "root")
    shown = in_terminal(*words)
    assert "step 0 epoch 1/1" in shown  # the bar
    assert "0:00:00" in shown.rpartition(" left ")[2]  # nothing is left
    assert "  epoch 1/1: " in shown  # the line itself, above it


def test_train_refuses_bad_input(refused: Refused, place: Path, trained: dict[str, str]) -> None:
    common = ("train", place / "squares.yaml", "--root", place / "root", "--step")
    assert refused(*common, 2) == "--step 2: squares has the steps 0 to 1"
    assert refused(*common, 1) == "--teacher: name the checkpoint of step 0"
    message = refused(*common, 0, "--teacher", trained["0 train"])
    assert message == "--teacher: step 0 has no teacher"
    message = refused(*common, 1, "--teacher", trained["1 train"])
    assert 'knows [["red", "green"], ["blue"]]' in message
    choose = ("memory", "choose", place / "squares.yaml", "--root", place / "root", "--step", 0)
    assert "memory_size: is 0" in refused(*choose, "--set", "memory_size=0")
    assert "step 0: not trained yet" in refused(*choose, "--set", "seed=9")


def test_a_step_is_of_its_teachers_network(
    refused: Refused, trained: dict[str, str], place: Path
) -> None:
    words = ("train", place / "squares.yaml", "--step", 1, "--root", place / "root")
    message = refused(*words, "--teacher", trained["0 train"], "--set", "network.aspp_channels=24")
    assert "its network is not the scenario's (network.aspp_channels: 16 teacher, 24 " in message
