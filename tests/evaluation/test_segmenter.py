"""The Python interface: images in, masks and probabilities out."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_segmenter import image, model, noise, published, segmenter

import dkd
from dkd import storage
from dkd.evaluation import segmenter as segmenting
from dkd.evaluation.segmenter import Segmentation
from dkd.network.prediction import segment
from dkd.storage import artifacts


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_model_is_loaded_by_uri_and_then_from_the_cache(
    s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    uri = published(f"{s3_root}/checkpoints/small", tmp_path / "work")
    photograph = image(tmp_path / "a.png", 50, 40)
    loaded = dkd.load(uri, device="cpu")
    assert loaded.class_names == ("background", "cat", "dog", "sheep")
    assert loaded.steps == (("cat", "dog"), ("sheep",))
    first = loaded.predict(photograph)
    assert np.array_equal(first.mask, segmenter().predict(photograph).mask)
    manifest = artifacts.load(uri)
    storage.delete(manifest.part_uri(name) for name in manifest.parts)
    assert np.array_equal(dkd.load(uri, device="cpu").predict(photograph).mask, first.mask)


def test_a_damaged_model_is_refused(cache: Path, tmp_path: Path) -> None:
    uri = published(str(tmp_path / "root/small"), tmp_path / "work")
    part = Path(artifacts.load(uri).part_uri("model.safetensors"))
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    with pytest.raises(dkd.UserError, match=r"part model.safetensors is damaged"):
        dkd.load(uri)
    with pytest.raises(dkd.UserError, match="device 'tpu'"):
        dkd.load(uri, device="tpu")


def test_a_large_image_is_segmented_by_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, model = image(tmp_path / "a.png", 500, 400), segmenter()
    whole = model.predict(path).mask
    monkeypatch.setattr(segmenting, "BATCH_PIXELS", 500 * 400 - 1)
    monkeypatch.setattr(segmenting, "ROWS_PIXELS", 500 * 33 + 1)  # the last rows are fewer
    assert len(np.unique(whole)) > 1
    assert np.array_equal(model.predict(path).mask, whole)


def test_importing_needs_no_torch() -> None:
    told = "import sys, dkd; print('torch' in sys.modules, 'numpy' in sys.modules, dkd.load)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False False ")


def test_paths_pictures_and_arrays_give_the_same(tmp_path: Path) -> None:
    path = image(tmp_path / "a.png", 50, 40)
    with Image.open(path) as picture:
        picture.load()
    pixels = np.asarray(picture)
    model = segmenter()
    expected = model.predict(path)
    assert isinstance(expected, Segmentation)
    assert expected.mask.shape == (40, 50)
    assert expected.mask.dtype == np.uint8
    assert expected.probabilities is None
    assert {expected.class_names[n] for n in np.unique(expected.mask)} - {"background"} == set(
        expected.found
    )
    for given in (str(path), picture, pixels, picture.convert("RGBA")):
        assert np.array_equal(model.predict(given).mask, expected.mask)
    grey = picture.convert("L")
    assert np.array_equal(model.predict(np.asarray(grey)).mask, model.predict(grey).mask)


def test_many_keep_their_order(tmp_path: Path) -> None:
    sizes = [(50, 40), (50, 40), (30, 60), (50, 40), (50, 40), (50, 40)]
    paths = [image(tmp_path / f"{n}.png", *size, n) for n, size in enumerate(sizes)]
    model = segmenter()
    together = model.predict(paths, batch=2)
    for path, size, seen in zip(paths, sizes, together, strict=True):
        assert seen.mask.shape == size[::-1]
        assert (seen.mask == model.predict(path).mask).mean() > 0.999
    assert model.predict([]) == []


def test_probabilities_are_those_that_the_mask_is_made_of(tmp_path: Path) -> None:
    seen = segmenter().predict(image(tmp_path / "a.png", 50, 40), probabilities=True)
    likely = seen.probabilities
    assert likely is not None
    assert likely.shape == (3, 40, 50)
    assert likely.dtype == np.float32
    assert np.array_equal(np.where(likely.max(0) > 0.5, likely.argmax(0) + 1, 0), seen.mask)
    assert len(np.unique(seen.mask)) > 2


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    """A tagged photograph and the same one turned beforehand have the same masks."""
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    lying = Image.open(image(tmp_path / "x.png", 50, 40))
    lying.save(tmp_path / "tagged.png", exif=exif)
    turned = lying.transpose(Image.Transpose.ROTATE_270)
    model = segmenter()
    expected = model.predict(turned).mask
    assert expected.shape == (50, 40)
    assert np.array_equal(model.predict(tmp_path / "tagged.png").mask, expected)
    with Image.open(tmp_path / "tagged.png") as opened:
        assert np.array_equal(model.predict(opened).mask, expected)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_arrays_that_are_no_image_are_refused(array: np.ndarray) -> None:
    with pytest.raises(dkd.UserError, match=r"^image: (an array of|4x0 pixels)"):
        segmenter().predict(array)


def test_pictures_of_unknown_range_or_shape_are_refused() -> None:
    """Pillow would cut 16 bits at 255: all white."""
    for mode in ("I", "F", "I;16B"):
        with pytest.raises(dkd.UserError, match=rf"image of mode {mode}; convert it"):
            segmenter().predict(Image.new(mode, (8, 8)))
    with pytest.raises(dkd.UserError, match=r"image: 1x300000 pixels"):
        segmenter().predict(np.zeros((300_000, 1), np.uint8))


def test_files_and_pictures_of_16_bits_give_the_same(tmp_path: Path) -> None:
    values = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) * 64
    Image.fromarray(values).save(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as picture:
        seen = [segmenter().predict(image).mask for image in (tmp_path / "deep.png", picture)]
    high = (values >> 8).astype(np.uint8)
    assert np.array_equal(*seen)
    assert np.array_equal(seen[0], segmenter().predict(high).mask)


def test_files_that_are_no_image_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("text")
    for name in ("x.png", "gone.jpg"):
        with pytest.raises(dkd.UserError, match=name):
            segmenter().predict(tmp_path / name)


@pytest.mark.parametrize("most", [1, 4 * 61 * 47 * 2, 1 << 28])
def test_classes_in_turns_give_what_all_at_once_give(most: int) -> None:
    images, small = noise(), model()
    logits = small.logits(small.features(images), (47, 61))[:, 1:]
    highest, channel = logits.max(dim=1)
    expected = torch.where(highest.sigmoid() > 0.5, channel + 1, 0).to(torch.uint8)
    found = segment(small, images, (47, 61), most_bytes=most)
    assert found.dtype == torch.uint8
    assert torch.equal(found, expected)
    assert len(found.unique()) > 2
