"""``dkd predict``: masks and overlays of photographs."""

from collections.abc import Callable
from pathlib import Path

from click.testing import Result
from PIL import Image

Command = Callable[..., Result]
Refused = Callable[..., str]


def test_predict_writes_masks_in_the_images_sizes(
    dkd: Command, trained: dict[str, str], place: Path, tmp_path: Path
) -> None:
    images = place / "data" / "images" / "validation"
    words = ("--checkpoint", trained["1 train"], images, "--output", tmp_path / "out")
    result = dkd("predict", *words)
    assert result.exit_code == 0, result.output
    assert "masks and overlays of 6 images" in result.stdout
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 6
    assert Image.open(tmp_path / "out" / "masks" / "0.png").size == (48, 40)


def test_predict_goes_on_after_a_bad_image_and_says_so(
    dkd: Command, random_checkpoint: str, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.new("RGB", (9, 9)).save(good)
    bad.write_text("text")
    words = ("predict", good, bad, "--output", "out", "--checkpoint", random_checkpoint)
    for there in ("", ", 1 were there"):
        result = dkd(*words)
        assert result.exit_code == 1, result.output
        assert f"masks and overlays of 1 images{there}, classes.json" in result.stdout
        lines = result.stderr.splitlines()
        assert sum(line.startswith(f"dkd: {bad}: ") for line in lines) == 1
        assert lines[-1] == "1 of 2 images could not be read"
    assert Image.open(tmp_path / "out/masks/good.png").size == (9, 9)


def test_predict_refuses_bad_input_and_writes_nothing(
    refused: Refused, trained: dict[str, str], tmp_path: Path
) -> None:
    good = tmp_path / "good.png"
    Image.new("RGB", (9, 9)).save(good)
    common = ("predict", good, "--output", "out", "--checkpoint")
    assert "no whole artifact there" in refused(*common, tmp_path / "none")
    assert "is a memory, not a checkpoint" in refused(*common, trained["0 memory"])
    assert "no such file" in refused("predict", "gone", *common[2:], trained["0 train"])
    assert not (tmp_path / "out").exists()
