"""Segmenting free images: what goes in, what comes out, and how it looks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dkd.data.palettes import voc_colour
from dkd.errors import UserError
from dkd.evaluation import predict
from dkd.evaluation.evaluator import segment
from dkd.network import deeplab
from dkd.scenario.class_names import VOC_CLASSES
from dkd.scenario.schema import Network

CPU = torch.device("cpu")
NETWORK = Network(backbone="demo", aspp_channels=16)
DESCRIPTION = {
    "classes": [["cat", "dog"], ["sheep"]],
    "dataset": {"name": "voc"},
    "training": {"crop": 32},
}


def image(path: Path, width: int, height: int, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(small).resize((width, height)).save(path)
    return path


def noise() -> torch.Tensor:
    return torch.randn(1, 3, 32, 40, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model() -> deeplab.SegmentationModel:
    torch.manual_seed(0)
    made = deeplab.build(NETWORK, [2, 1]).eval()
    with torch.no_grad():  # so that every class and background is seen somewhere
        logits = made(noise()).logits[:, 1:]
        for head, channels in zip(made.cls[1:], logits.split([2, 1], dim=1), strict=True):
            head.bias -= channels.mean(dim=(0, 2, 3))
    return made


def run(model: deeplab.SegmentationModel, found: list[predict.Source], output: Path) -> list:
    seen: list[tuple[int, int]] = []
    predict.predict(
        model,
        found,
        DESCRIPTION,
        output,
        device=CPU,
        batch=2,
        alpha=0.5,
        progress=lambda *done: seen.append(done),
    )
    return seen


def test_masks_overlays_and_legend(model: deeplab.SegmentationModel, tmp_path: Path) -> None:
    for number in range(3):
        image(tmp_path / "in" / f"{number}.png", 50, 40, number)
    image(tmp_path / "in" / "deep" / "wide.JPG", 90, 33)
    (tmp_path / "in" / "notes.txt").write_text("passed over")
    found = predict.sources([tmp_path / "in"])
    assert [source.name for source in found] == ["0", "1", "2", "deep/wide"]
    output = tmp_path / "out"
    assert run(model, found, output) == [(1, 4), (3, 4), (4, 4)]
    legend = json.loads((output / "classes.json").read_text())
    assert [row["name"] for row in legend] == ["background", "cat", "dog", "sheep"]
    assert [row["value"] for row in legend] == [0, 1, 2, 3]
    assert legend[1]["colour"] == [64, 0, 0]  # VOC's cat
    assert legend[3]["step"] == 1
    for source in found:
        mask = Image.open(output / "masks" / f"{source.name}.png")
        assert mask.mode == "P"
        assert mask.size == source.size[::-1]
        assert set(mask.tobytes()) <= {0, 1, 2, 3}
        assert mask.getpalette()[:12] == [level for row in legend for level in row["colour"]]
        assert Image.open(output / "overlays" / f"{source.name}.jpg").size == mask.size
    assert sorted(path.name for path in output.iterdir()) == ["classes.json", "masks", "overlays"]


def test_results_do_not_depend_on_the_batch(
    model: deeplab.SegmentationModel, tmp_path: Path
) -> None:
    paths = [image(tmp_path / f"{n}.png", 48, 36, n) for n in range(3)]
    run(model, predict.sources(paths), tmp_path / "together")
    for path in paths:
        run(model, predict.sources([path]), tmp_path / "alone")
        name = f"masks/{path.stem}.png"
        together = np.asarray(Image.open(tmp_path / "together" / name))
        alone = np.asarray(Image.open(tmp_path / "alone" / name))
        assert (together == alone).mean() > 0.999


@pytest.mark.parametrize("most", [1, 4 * 61 * 47 * 2, 1 << 28])
def test_classes_in_turns_give_what_all_at_once_give(
    model: deeplab.SegmentationModel, most: int
) -> None:
    images = noise()
    logits = model.logits(model.features(images), (47, 61))[:, 1:]
    highest, channel = logits.max(dim=1)
    expected = torch.where(highest.sigmoid() > 0.5, channel + 1, 0).to(torch.uint8)
    found = segment(model, images, (47, 61), most_bytes=most)
    assert found.dtype == torch.uint8
    assert torch.equal(found, expected)
    assert len(found.unique()) > 2


def test_photographs_are_turned_upright(model: deeplab.SegmentationModel, tmp_path: Path) -> None:
    """A tagged photograph and the same one turned beforehand have the same masks."""
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    lying = Image.open(image(tmp_path / "x.png", 50, 40))
    lying.save(tmp_path / "tagged.png", exif=exif)
    lying.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "turned.png")
    found = predict.sources([tmp_path / "tagged.png", tmp_path / "turned.png"])
    assert [source.size for source in found] == [(50, 40)] * 2
    run(model, found, tmp_path / "out")
    masks = [np.asarray(Image.open(tmp_path / f"out/masks/{s.name}.png")) for s in found]
    assert masks[0].shape == (50, 40)
    assert np.array_equal(*masks)


@pytest.mark.parametrize("size", [(1, 300_000), (101, 1)])
def test_images_that_the_index_refuses_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("L", size).save(tmp_path / "long.png")
    with pytest.raises(UserError, match=r"long\.png: .*100 times as long as wide"):
        predict.sources([tmp_path])


def test_overlay_tints_classes_and_leaves_background() -> None:
    channels = np.array([[0, 1], [1, 0]], np.uint8).repeat(16, 0).repeat(16, 1)
    grey = Image.new("RGB", (32, 32), (100, 100, 100))
    data = predict.overlay(grey, channels, [(0, 0, 0), (200, 0, 100)], 0.5)
    import io

    shown = np.asarray(Image.open(io.BytesIO(data))).astype(int)
    assert np.abs(shown[8, 8] - [100, 100, 100]).max() <= 6
    assert np.abs(shown[8, 24] - [150, 50, 100]).max() <= 6


def test_palettes_are_the_data_sets_own() -> None:
    names = list(VOC_CLASSES.values())
    assert predict.palette(names, "voc") == tuple(voc_colour(value) for value in range(21))
    swapped = predict.palette(["tvmonitor", "aeroplane"], "voc")
    assert swapped == ((0, 0, 0), voc_colour(20), voc_colour(1))
    mixed = predict.palette(["cat", "tractor"], "voc")
    assert mixed[1] == voc_colour(8)
    for dataset in ("voc", "ade20k", "mine"):
        colours = predict.palette([f"class {n}" for n in range(150)], dataset)
        assert len(set(colours)) == 151


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: [d / "gone.jpg"], "gone.jpg: no such file or folder"),
        (lambda d: [d], ": no JPEG or PNG image in this folder"),
        (
            lambda d: [image(d / "a" / "x.png", 8, 8), image(d / "b" / "x.jpg", 8, 8)],
            "has the same name; rename one of them",
        ),
        (
            lambda d: [image(d / "x.png", 8, 8).parent, image(d / "x.jpg", 8, 8)],
            "two images differ in their suffix only",
        ),
    ],
)
def test_bad_sources_are_named(tmp_path: Path, make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message):
        predict.sources(make(tmp_path))


def test_what_is_no_image_is_named_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_text("no image")
    with pytest.raises(UserError, match=r"broken.jpg: not a JPEG or PNG file"):
        predict.sources([tmp_path])


def test_a_cut_off_image_leaves_nothing_written(
    model: deeplab.SegmentationModel, tmp_path: Path
) -> None:
    whole = image(tmp_path / "in" / "a.png", 40, 40)
    cut = image(tmp_path / "in" / "b.jpg", 400, 400, 1)
    cut.write_bytes(cut.read_bytes()[:-400])
    found = predict.sources([whole, cut])
    with pytest.raises(UserError, match=r"b.jpg: image cannot be read"):
        run(model, found, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_output_that_is_a_file_is_named(
    model: deeplab.SegmentationModel, tmp_path: Path
) -> None:
    found = predict.sources([image(tmp_path / "a.png", 20, 20)])
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match=r"out: cannot be written"):
        run(model, found, tmp_path / "out")
