"""Segmenting folders: what goes in, what comes out, and what happens when it is done again."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_segmenter import image, segmenter

from dkd.errors import UserError
from dkd.evaluation import colouring, predict
from dkd.evaluation.segmenter import Segmenter


class Call:
    """A call of the command's function, and what it said."""

    def __init__(
        self, found: list[predict.ImageFile], output: Path, model: Segmenter | None = None
    ) -> None:
        self.progress: list[tuple[int, int]] = []
        self.complaints: list[str] = []
        self.outcome = predict.predict(
            model or segmenter(),
            found,
            output,
            batch=2,
            alpha=0.5,
            progress=lambda *done: self.progress.append(done),
            complain=self.complaints.append,
        )


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_masks_overlays_and_legend(tmp_path: Path) -> None:
    for number in range(3):
        image(tmp_path / "in" / f"{number}.png", 50, 40, number)
    image(tmp_path / "in" / "deep" / "wide.JPG", 90, 33)
    (tmp_path / "in" / "notes.txt").write_text("passed over")
    found = predict.sources([tmp_path / "in"])
    assert [source.name for source in found] == ["0", "1", "2", "deep/wide"]
    output = tmp_path / "out"
    call = Call(found, output)
    assert call.outcome == predict.Outcome(made=4, found=0, refused=())
    assert call.progress[-1] == (4, 4)
    assert call.progress == sorted(call.progress)
    legend = json.loads((output / "classes.json").read_text())
    assert [row["name"] for row in legend] == ["background", "cat", "dog", "sheep"]
    assert [row["value"] for row in legend] == [0, 1, 2, 3]
    assert legend[1]["colour"] == [64, 0, 0]  # VOC's cat
    assert legend[3]["step"] == 1
    for source in found:
        mask = Image.open(output / "masks" / f"{source.name}.png")
        assert mask.mode == "P"
        with Image.open(source.path) as photograph:
            assert mask.size == photograph.size
        assert set(mask.tobytes()) <= {0, 1, 2, 3}
        assert mask.getpalette()[:12] == [level for row in legend for level in row["colour"]]
        assert Image.open(output / "overlays" / f"{source.name}.jpg").size == mask.size
    assert sorted(path.name for path in output.iterdir()) == ["classes.json", "masks", "overlays"]


def test_results_appear_before_the_last_image_is_read(tmp_path: Path) -> None:
    paths = [image(tmp_path / f"{n}.png", 40, 40, n) for n in range(5)]
    there: list[int] = []
    predict.predict(
        segmenter(),
        predict.sources(paths),
        tmp_path / "out",
        batch=2,
        alpha=0.5,
        progress=lambda *_: there.append(len(list(tmp_path.glob("out/masks/*.png")))),
        complain=pytest.fail,
    )
    assert there == [0, 2, 2, 4, 4, 5]


def test_images_of_many_sizes_do_not_pile_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [image(tmp_path / f"{n:02}.png", 40 + n, 40, n) for n in range(12)]
    model, most = segmenter(), 0
    waiting: set[int] = set()
    read, segmented = predict.read_image, model.predict

    def counted(path: Path, most_pixels: int) -> Image.Image:
        nonlocal most
        opened = read(path, most_pixels)
        waiting.add(id(opened))
        most = max(most, len(waiting))
        return opened

    def done(images: list[Image.Image], **more: int) -> object:
        waiting.difference_update(map(id, images))
        return segmented(images, **more)

    monkeypatch.setattr(predict, "read_image", counted)
    monkeypatch.setattr(model, "predict", done)
    assert Call(predict.sources(paths), tmp_path / "out", model).outcome.made == 12
    assert most <= 4 * 2 + 1


def test_results_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    paths = [image(tmp_path / f"{n}.png", 48, 36, n) for n in range(3)]
    Call(predict.sources(paths), tmp_path / "together")
    for path in paths:
        Call(predict.sources([path]), tmp_path / "alone")
        name = f"masks/{path.stem}.png"
        together = np.asarray(Image.open(tmp_path / "together" / name))
        alone = np.asarray(Image.open(tmp_path / "alone" / name))
        assert (together == alone).mean() > 0.999


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    image(tmp_path / "in" / "a.png", 40, 40)
    cut = image(tmp_path / "in" / "b.jpg", 400, 400, 1)
    cut.write_bytes(cut.read_bytes()[:-400])
    (tmp_path / "in" / "c.jpg").write_text("no image")
    image(tmp_path / "in" / "d.png", 40, 40)
    call = Call(predict.sources([tmp_path / "in"]), tmp_path / "out")
    assert call.outcome.made == 2
    assert call.outcome.refused == tuple(call.complaints)
    assert ["b.jpg" in call.complaints[0], "c.jpg" in call.complaints[1]] == [True, True]
    assert call.progress[-1] == (4, 4)
    assert sorted(p.name for p in tmp_path.glob("out/masks/*")) == ["a.png", "d.png"]


def test_a_second_call_does_what_is_missing(tmp_path: Path) -> None:
    paths = [image(tmp_path / "in" / f"{n}.png", 40, 40, n) for n in range(4)]
    output = tmp_path / "out"
    Call(predict.sources(paths[:2]), output)
    before = contents(output)
    image(paths[0], 40, 40, seed=9)  # has changed
    (output / "overlays/1.jpg").unlink()
    found = predict.sources([tmp_path / "in"])
    assert Call(found, output).outcome == predict.Outcome(made=4, found=0, refused=())
    assert Call(found, output).outcome == predict.Outcome(made=0, found=4, refused=())
    after = contents(output)
    assert after["masks/1.png"] == before["masks/1.png"]
    assert after["overlays/1.jpg"] == before["overlays/1.jpg"]
    assert after["masks/0.png"] != before["masks/0.png"]
    # Another model with the same classes replaces them.
    newer = segmenter(seed=1, digest="1" * 64)
    assert Call(found, output, newer).outcome.made == 4
    assert contents(output)["masks/1.png"] != after["masks/1.png"]


def test_halves_that_a_killed_call_left_are_removed(tmp_path: Path) -> None:
    """Unless they are so young that another call may be writing them."""
    image(tmp_path / "in" / "deep" / "1.png", 50, 40, 1)
    masks = tmp_path / "out" / "masks" / "deep"
    masks.mkdir(parents=True)
    old, young = masks / ".1.png.77.arriving", masks / ".2.png.78.arriving"
    for left in (old, young):
        left.write_bytes(b"half")
    before = time.time() - 3600
    os.utime(old, (before, before))
    gone = masks / ".3.png.79.arriving"  # listed, and renamed before it is looked at
    gone.symlink_to("nowhere")
    Call(predict.sources([tmp_path / "in"]), tmp_path / "out")
    assert sorted(path.name for path in masks.iterdir()) == [young.name, gone.name, "1.png"]


@pytest.mark.parametrize("output", ["photos/segmented", "photos"])
def test_its_own_results_are_never_segmented(tmp_path: Path, output: str) -> None:
    """The output inside the input, called again and again."""
    image(tmp_path / "photos" / "a.png", 40, 40)
    image(tmp_path / "photos" / "masks" / "drawn.png", 40, 40)  # somebody's photograph all the same
    for made in (2, 0):
        found = predict.sources([tmp_path / "photos"])
        assert [source.name for source in found] == ["a", "masks/drawn"]
        assert Call(found, tmp_path / output).outcome.made == made
    assert len(list((tmp_path / output).rglob("*.png"))) == (4 if output == "photos" else 2)


def test_nothing_that_was_not_made_here_is_replaced(tmp_path: Path) -> None:
    """A data set's own masks/, with its folder as the output."""
    image(tmp_path / "set/images/train/0.png", 40, 40)
    image(tmp_path / "set/masks/train/0.png", 40, 40)
    before = contents(tmp_path / "set")
    with pytest.raises(UserError, match=r"set/masks/train/0.png: was not made by dkd predict"):
        Call(predict.sources([tmp_path / "set/images"]), tmp_path / "set")
    assert contents(tmp_path / "set") == before


def test_a_folder_of_another_models_classes_is_refused(tmp_path: Path) -> None:
    found = predict.sources([image(tmp_path / "a.png", 20, 20)])
    (tmp_path / "out").mkdir()
    (tmp_path / "out/classes.json").write_text("[]")
    with pytest.raises(UserError, match=r"classes.json: explains masks of another model's"):
        Call(found, tmp_path / "out")
    assert contents(tmp_path / "out") == {"classes.json": b"[]"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: [d / "gone.jpg"], "gone.jpg: no such file or folder"),
        (lambda d: [d], ": no JPEG, PNG, TIFF or WebP image in this folder"),
        (
            lambda d: [image(d / "a" / "x.png", 8, 8), image(d / "b" / "x.jpg", 8, 8)],
            "has the same name; rename one of them",
        ),
        (
            lambda d: [image(d / "x.png", 8, 8).parent, image(d / "x.jpg", 8, 8)],
            "two images differ only in their suffix",
        ),
    ],
)
def test_bad_sources_are_named(tmp_path: Path, make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message):
        predict.sources(make(tmp_path))


def test_an_output_that_is_a_file_is_named(tmp_path: Path) -> None:
    found = predict.sources([image(tmp_path / "a.png", 20, 20)])
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match=r"out: cannot be written"):
        Call(found, tmp_path / "out")


def test_results_are_known_by_their_image_and_model(tmp_path: Path) -> None:
    Call(predict.sources([image(tmp_path / "a.png", 20, 20)]), tmp_path / "out")
    told = colouring.made_of(tmp_path / "out/masks/a.png")
    assert told is not None
    assert told.endswith(f"model {'0' * 64}, overlay 0.5")
