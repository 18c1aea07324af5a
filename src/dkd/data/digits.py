"""A small data set for trials and tests: scenes of real handwritten digits with a label per pixel.

The handwriting is scikit-learn's ``load_digits`` (1,797 samples of 8x8 pixels, from UCI's optical
recognition set), which ships inside that package: nothing is downloaded. A scene shows a few
digits of random size, colour and place on a cluttered ground: shading, texture, strokes, and
scraps of digits that are none (mixed from quarters of several samples). Training and validation
scenes are made of different handwriting.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from dkd.data.scenes import DrawScene, SceneArray
from dkd.errors import UserError
from dkd.scenario.data import Data
from dkd.scenario.tasks import VOID

_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_CLASSES = dict(enumerate(_NAMES, start=1))
"""Names by label value: digit d has value d + 1."""

_SIDES = (0.4, 0.65)  # of a digit, relative to the scene's side
_DIGITS = (2, 4)  # how many are tried in a scene, inclusive
_SCRAPS = (0, 2)
_CONTRAST = 0.3  # by which ink is brighter than the ground around it, of 1
VERSION = 2  # of the drawing below: raise it when the scenes change


_Floats = npt.NDArray[np.float32]


def classes(_settings: Data.Made) -> Mapping[int, str]:
    """Names by label value."""
    return _CLASSES


def scenes(settings: Data.Made, split: str) -> DrawScene:
    """What draws a scene: an image (size, size, 3) and its mask (size, size).

    Args:
        settings: side in pixels.
        split: ``train`` or ``validation``, which are made of different handwriting.

    Raises:
        UserError: scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UserError("the digits data set needs scikit-learn: install dkd[demo]") from None
    samples = load_digits()
    shapes: _Floats = (samples.images / 16).astype(np.float32)  # (n, 8, 8), ink in [0, 1]
    ours = handwriting(split, len(samples.target))
    return _Scenes(shapes[ours], samples.target[ours], settings.size).draw


def handwriting(split: str, samples: int) -> npt.NDArray[np.int64]:
    """Which of scikit-learn's samples a split is made of: every fifth is the validation's."""
    return np.flatnonzero((np.arange(samples) % 5 == 4) == (split == "validation"))


class _Scenes:
    """Draws scenes from handwriting of shape (n, 8, 8), ink in [0, 1]."""

    def __init__(self, shapes: _Floats, targets: npt.NDArray[np.int64], size: int) -> None:
        self.shapes = shapes
        self.by_digit = [np.flatnonzero(targets == digit) for digit in range(10)]
        self.size = size

    def draw(self, rng: np.random.Generator) -> tuple[SceneArray, SceneArray]:
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

    def _ground(self, rng: np.random.Generator) -> _Floats:
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

    def _scrap(self, rng: np.random.Generator) -> _Floats:
        """Ink that looks like handwriting but is no digit: quarters of four samples, turned."""
        scrap = np.zeros((8, 8), np.float32)
        for area in (np.s_[:4, :4], np.s_[:4, 4:], np.s_[4:, :4], np.s_[4:, 4:]):
            shape = self.shapes[rng.integers(len(self.shapes))]
            scrap[area] = np.rot90(shape, int(rng.integers(1, 4)))[area]
        return scrap

    def _place(self, shape: _Floats, rng: np.random.Generator) -> tuple[_Floats, int, int]:
        side_y = int(self.size * rng.uniform(*_SIDES))
        side_x = int(side_y * rng.uniform(0.75, 1.1))
        large = Image.fromarray(shape).resize((side_x, side_y), Image.Resampling.BICUBIC)
        ink = np.clip(np.asarray(large), 0, 1).astype(np.float32)
        top = int(rng.integers(0, self.size - side_y + 1))
        left = int(rng.integers(0, self.size - side_x + 1))
        return ink, top, left

    def _blend(
        self, image: _Floats, ink: _Floats, top: int, left: int, rng: np.random.Generator
    ) -> None:
        area = image[top : top + ink.shape[0], left : left + ink.shape[1]]
        ground = min(float(area.mean()), 1 - 1.5 * _CONTRAST)
        while True:  # a colour that stands out from the ground, sometimes only just
            colour = rng.uniform(0.3, 1, 3)
            if colour.mean() - ground > _CONTRAST:
                break
        area += ink[..., None] * (colour - area).astype(np.float32)
