"""The demonstration's data: scenes of real handwritten digits with a label per pixel.

The handwriting is scikit-learn's ``load_digits`` (1,797 samples of 8x8 pixels, from UCI's optical
recognition set), which ships inside that package: nothing is downloaded. A scene shows a few
digits of random size, colour and place on a cluttered ground: shading, texture, strokes, and
scraps of digits that are none (mixed from quarters of several samples). Training and validation
scenes are made of different handwriting.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from dkd.errors import UserError
from dkd.scenario.data import Data
from dkd.scenario.tasks import VOID
from dkd.storage.files import scratch

_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_CLASSES = dict(enumerate(_NAMES, start=1))
"""Names by label value: digit d has value d + 1."""

_SIDES = (0.4, 0.65)  # of a digit, relative to the scene's side
_DIGITS = (2, 4)  # how many are tried in a scene, inclusive
_SCRAPS = (0, 2)
_CONTRAST = 0.3  # by which ink is brighter than the ground around it, of 1
_VERSION = 2  # of the drawing below: raise it when the scenes change

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


def folder(parent: Path, settings: Data.Digits) -> Path:
    """Where below ``parent`` the data of these settings belong."""
    text = json.dumps([_VERSION, settings.model_dump()], sort_keys=True)
    return parent / f"digits-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def make(folder: Path, settings: Data.Digits) -> None:
    """Writes the scenes to a folder in the ``folder`` layout; a folder that has them is kept.

    Equal settings give equal pixels. The folder appears whole or not at all.

    Args:
        folder: does not exist, is empty, or was made with the same settings.
        settings: number of scenes, their side in pixels (3-channel images), seed.

    Raises:
        UserError: scikit-learn is missing, or the folder holds something else.
    """
    stamp = json.dumps({"version": _VERSION, **settings.model_dump()}, sort_keys=True)
    marker = folder / "digits.json"
    if marker.is_file() and marker.read_text(encoding="utf-8") == stamp:
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder}: holds something else; name a folder that does not exist yet")
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UserError("the digits data set needs scikit-learn: install dkd[demo]") from None
    samples = load_digits()
    try:
        with scratch(folder.parent, ".digits-") as work:
            _write(work, settings, samples.images, samples.target)
            (work / "digits.json").write_text(stamp, encoding="utf-8")
            try:
                work.rename(folder)
            except OSError:
                # Somebody else made it meanwhile: theirs is the same.
                if not (marker.is_file() and marker.read_text(encoding="utf-8") == stamp):
                    raise
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from None


def _write(
    folder: Path,
    settings: Data.Digits,
    images: npt.NDArray[np.float64],
    targets: npt.NDArray[np.int64],
) -> None:
    """Writes images, masks and class names; ``images`` is (n, 8, 8), ink in [0, 16]."""
    shapes: Floats = (images / 16).astype(np.float32)
    for split, count in (("train", settings.train), ("validation", settings.validation)):
        ours = handwriting(split, len(targets))
        maker = _Scenes(shapes[ours], targets[ours], settings.size)
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for number in range(count):
            seed = np.random.SeedSequence([settings.seed, int(split == "validation"), number])
            image, mask = maker.draw(np.random.default_rng(seed))
            name = f"{split}-{number:05}.png"
            Image.fromarray(image).save(folder / "images" / split / name, compress_level=1)
            Image.fromarray(mask).save(folder / "masks" / split / name, compress_level=1)
    lines = [f"{value}: {name}" for value, name in _CLASSES.items()]
    (folder / "classes.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def handwriting(split: str, samples: int) -> npt.NDArray[np.int64]:
    """Which of scikit-learn's samples a split is made of: every fifth is the validation's."""
    return np.flatnonzero((np.arange(samples) % 5 == 4) == (split == "validation"))


class _Scenes:
    """Draws scenes from handwriting of shape (n, 8, 8), ink in [0, 1]."""

    def __init__(self, shapes: Floats, targets: npt.NDArray[np.int64], size: int) -> None:
        self.shapes = shapes
        self.by_digit = [np.flatnonzero(targets == digit) for digit in range(10)]
        self.size = size

    def draw(self, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
        """An image (size, size, 3) and its mask (size, size), both uint8."""
        size = self.size
        image = self._ground(rng)
        for _ in range(rng.integers(*_SCRAPS, endpoint=True)):
            ink, top, left = self._place(self._scrap(rng), rng)
            self._blend(image, ink, top, left, rng)
        mask = np.zeros((size, size), np.uint8)
        taken = np.zeros((size, size), bool)
        for _ in range(rng.integers(*_DIGITS, endpoint=True)):
            digit = int(rng.integers(10))
            shape = self.shapes[rng.choice(self.by_digit[digit])]
            for _ in range(8):  # digits do not cover each other; a full scene stays as it is
                ink, top, left = self._place(shape, rng)
                area = np.s_[top : top + ink.shape[0], left : left + ink.shape[1]]
                if taken[area].any():
                    continue
                self._blend(image, ink, top, left, rng)
                taken[area] = True
                region = mask[area]
                region[ink > 0.15] = VOID  # the blurred rim belongs to nobody
                region[ink > 0.4] = digit + 1
                break
        image += rng.normal(0, rng.uniform(0.01, 0.05), image.shape).astype(np.float32)
        return (np.clip(image, 0, 1) * 255).round().astype(np.uint8), mask

    def _ground(self, rng: np.random.Generator) -> Floats:
        size = self.size
        base = rng.uniform(0.05, 0.5, 3)
        coarse = rng.normal(0, 0.1, (int(rng.integers(3, 9)),) * 2 + (3,)).astype(np.float32)
        layers = [
            np.asarray(
                Image.fromarray(np.ascontiguousarray(coarse[..., c])).resize(
                    (size, size), Image.Resampling.BICUBIC
                )
            )
            for c in range(3)
        ]
        image = (base + np.stack(layers, axis=-1)).astype(np.float32)
        canvas = Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8))
        pen = ImageDraw.Draw(canvas)
        for _ in range(rng.integers(3, 8)):  # strokes and blobs in colours near and far
            x, y, dx, dy = rng.uniform(0, size, 4)
            near = np.clip(base + rng.normal(0, 0.2, 3), 0, 1)
            colour = tuple(int(v) for v in near * 255)
            if rng.random() < 0.6:
                pen.line([x, y, dx, dy], fill=colour, width=int(rng.integers(1, 1 + size // 16)))
            else:
                radius = rng.uniform(size / 32, size / 8)
                pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
        return np.asarray(canvas).astype(np.float32) / np.float32(255)

    def _scrap(self, rng: np.random.Generator) -> Floats:
        """Ink that looks like handwriting but is no digit: quarters of four samples, turned."""
        scrap = np.zeros((8, 8), np.float32)
        for area in (np.s_[:4, :4], np.s_[:4, 4:], np.s_[4:, :4], np.s_[4:, 4:]):
            shape = self.shapes[rng.integers(len(self.shapes))]
            scrap[area] = np.rot90(shape, int(rng.integers(1, 4)))[area]
        return scrap

    def _place(self, shape: Floats, rng: np.random.Generator) -> tuple[Floats, int, int]:
        side_y = int(self.size * rng.uniform(*_SIDES))
        side_x = int(side_y * rng.uniform(0.75, 1.1))
        large = Image.fromarray(shape).resize((side_x, side_y), Image.Resampling.BICUBIC)
        ink = np.clip(np.asarray(large), 0, 1).astype(np.float32)
        top = int(rng.integers(0, self.size - side_y + 1))
        left = int(rng.integers(0, self.size - side_x + 1))
        return ink, top, left

    def _blend(
        self, image: Floats, ink: Floats, top: int, left: int, rng: np.random.Generator
    ) -> None:
        area = image[top : top + ink.shape[0], left : left + ink.shape[1]]
        ground = min(float(area.mean()), 1 - 1.5 * _CONTRAST)
        while True:  # a colour that stands out from the ground, sometimes only just
            colour = rng.uniform(0.3, 1, 3)
            if colour.mean() - ground > _CONTRAST:
                break
        area += ink[..., None] * (colour - area).astype(np.float32)
