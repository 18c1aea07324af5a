"""``dkd evaluate``: a model scored on a data set."""

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result
from fixtures.data_sets import make_squares

from dkd.storage import artifacts

Command = Callable[..., Result]
Refused = Callable[..., str]


def test_evaluate_agrees_with_the_evaluation_that_training_made(
    dkd: Command, trained: dict[str, str], place: Path, tmp_path: Path
) -> None:
    words = ("--data", place / "data", "--format", "folder", "-o", tmp_path / "scores.json")
    result = dkd("evaluate", "--checkpoint", trained["1 train"], *words)
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "scores.json").read_text())
    published = artifacts.load(trained["1 evaluate"])
    made = json.loads(artifacts.read_part(published, "evaluation.json"))
    assert document["confusion"] == made["confusion"]
    assert document["images"] == made["images"] == 6
    rows = [line.split() for line in result.stdout.splitlines()]
    shown = {row[-5]: row[-4:] for row in rows if row[-2:-1] == ["to"]}
    scored, within = document["scores"], document["intervals"]

    def line(figure: float, ends: list[float]) -> list[str]:
        return [f"{figure:.2f}", f"{ends[0]:.1f}", "to", f"{ends[1]:.1f}"]

    assert shown["blue"] == line(scored["iou"][3], within["iou"][3])
    assert shown["mIoU_all"] == line(scored["miou_all"], within["miou_all"])


def test_evaluate_matches_classes_by_name(
    dkd: Command, random_checkpoint: str, place: Path
) -> None:
    words = ("--checkpoint", random_checkpoint, "--data", place / "data", "--format", "folder")
    for more in ((), ("--protocol", "paper"), ("--split", "train")):
        result = dkd("evaluate", *words, *more)
        assert result.exit_code == 0, result.output
        assert "not in the data set: pink" in result.stderr
    assert "6 train images of data, protocol corrected" in result.stdout


def test_evaluate_refuses_bad_input(
    refused: Refused, random_checkpoint: str, place: Path, tmp_path: Path
) -> None:
    common = ("evaluate", "--checkpoint", random_checkpoint, "--format", "folder", "--data")
    assert "none: no such folder" in refused(*common, tmp_path / "none")
    other = tmp_path / "other"
    make_squares(other)
    (other / "classes.yaml").write_text("{1: oak, 2: elm, 5: fir}")
    assert "has none of the model's classes (blue, red, pink" in refused(*common, other)
