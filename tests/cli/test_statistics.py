"""``dkd statistics``."""

from collections.abc import Callable
from pathlib import Path

from click.testing import Result
from fixtures.data_sets import make_colours
from step_runs import Run, scenario

from dkd.storage import artifacts


def test_the_command(
    dkd: Callable[..., Result], refused: Callable[..., str], tmp_path: Path
) -> None:
    colours = make_colours(tmp_path / "colours")
    given = scenario(
        memory_size=0,
        data={"format": "folder", "root": str(colours)},
        task=[["red", "green"], ["blue"]],
    )
    run = Run(tmp_path / "root", given)
    teacher = run.step(0).uri
    words = ("statistics", teacher, "--data", colours, "--format", "folder", "-o", tmp_path / "new")
    done = dkd(*words)
    assert f"{tmp_path / 'new'}: continue it with --set method=star" in done.stdout
    assert artifacts.load(str(tmp_path / "new")).metadata["statistics"]["of"]["uri"] == teacher
    digits = Run(tmp_path / "digits", scenario(memory_size=0)).step(0).uri
    told = refused("statistics", digits, *words[2:-1], tmp_path / "newer")
    assert told.startswith(f"{digits}: no training image of colours holds zero, ")
    assert told.endswith("; its statistics need images of every class")
