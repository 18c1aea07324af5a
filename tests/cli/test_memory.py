"""``dkd memory``: what it shows and chooses."""

from collections.abc import Callable
from pathlib import Path

from click.testing import Result

Command = Callable[..., Result]
Refused = Callable[..., str]


def test_memory_show_counts_classes(dkd: Command, trained: dict[str, str]) -> None:
    result = dkd("memory", "show", trained["0 memory"], "--images")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert "4 exemplars (4 of step 0)" in result.stdout
    assert ["0", "red", "2"] in lines
    assert ["0", "green", "2"] in lines
    assert len(lines) == 2 + 2 + 4


def test_memory_choose_finds_the_steps_memory(
    dkd: Command, trained: dict[str, str], place: Path
) -> None:
    words = (place / "squares.yaml", "--step", 0, "--root", place / "root")
    result = dkd("memory", "choose", *words)
    assert result.exit_code == 0, result.output
    assert trained["0 memory"] in result.stdout


def test_memory_show_refuses_other_artifacts(refused: Refused, random_checkpoint: str) -> None:
    message = refused("memory", "show", random_checkpoint)
    assert message == f"{random_checkpoint}: is a checkpoint, not an exemplar memory"
