"""The demonstration's data: pictograms of animals, vehicles and things over photographs.

The pictograms are Font Awesome's (package fontawesomefree, SIL OFL 1.1), the photographs the two
that scikit-learn ships (china.jpg and flower.jpg, CC BY 2.0): nothing is downloaded. A scene shows
a few pictograms of random size, colour, slant and place that do not cover each other; a class may
have several drawings. Training and validation scenes lie over different parts of the photographs.
"""

import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from dkd.data.scenes import DrawScene, SceneArray
from dkd.errors import UserError
from dkd.scenario.data import Data
from dkd.scenario.tasks import VOID

VERSION = 1  # of the drawing below: raise it when the scenes change
_GLYPHS = {
    "cat": "\uf6be",
    "fish": "\uf578\ue4f2",  # fish, fish-fins
    "car": "\uf5e4\uf1b9\uf1ba",  # car-side, car, taxi
    "plane": "\uf072",
    "apple": "\uf5d1",
    "cup": "\uf0f4\uf7b6",  # mug-saucer, mug-hot
    "bird": "\uf520\uf4ba",  # crow, dove
    "bus": "\uf207\uf55e\uf5b6",  # bus, bus-simple, van-shuttle
    "boat": "\ue445\uf21a",  # sailboat, ship
    "tree": "\uf1bb",
}
"""Code points in Font Awesome 6's solid style, by class."""

_NEW_GLYPHS = {"umbrella": "\uf0e9", "house": "\uf015", "guitar": "\uf7a6"}
"""Those of classes that are added to a model which knows the others."""

_FONT = "static/fontawesomefree/webfonts/fa-solid-900.ttf"
_DRAWN = 96  # pixels of a glyph's longer side before it is brought to a scene's size
_SIDES = (0.34, 0.55)  # of a pictogram, relative to the scene's side
_SHOWN = (2, 4)  # how many are tried in a scene, inclusive
_SLANT = 15.0  # degrees
_FOR_TRAINING = 0.62  # share of the photographs' width, from the left


_Floats = npt.NDArray[np.float64]


def classes(settings: Data.Pictograms) -> Mapping[int, str]:
    """Names by label value."""
    return dict(enumerate(_glyphs(settings), start=1))


def scenes(settings: Data.Pictograms, split: str) -> DrawScene:
    """What draws a scene: an image (size, size, 3) and its mask (size, size).

    Args:
        settings: side in pixels, and the new class if there is one.
        split: ``train`` or ``validation``, which lie over different parts of the photographs.

    Raises:
        UserError: a package that holds pictograms or photographs is missing.
    """
    labelled = tuple(value for value in classes(settings) if value > len(_GLYPHS))
    if not (labelled and split == "train"):
        labelled = tuple(classes(settings))
    return _Scenes(settings, grounds(split), labelled).draw


def _glyphs(settings: Data.Pictograms) -> Mapping[str, str]:
    new = settings.new_class
    return _GLYPHS | ({new: _NEW_GLYPHS[new]} if new else {})


@cache
def _photographs() -> tuple[Image.Image, ...]:
    folder = _package("sklearn", "scikit-learn") / "datasets" / "images"
    return tuple(Image.open(folder / f"{name}.jpg").convert("RGB") for name in ("china", "flower"))


def grounds(split: str) -> tuple[Image.Image, ...]:
    """The photographs' parts that belong to a split."""

    def part(photograph: Image.Image) -> Image.Image:
        width, height = photograph.size
        border = round(_FOR_TRAINING * width)
        left, right = (0, border) if split == "train" else (border, width)
        return photograph.crop((left, 0, right, height))

    return tuple(part(each) for each in _photographs())


def _drawings(
    glyphs: Mapping[str, str],
) -> tuple[tuple[tuple[Image.Image, Image.Image], ...], ...]:
    """For each class its drawings: lines and areas in ink, and the silhouette with holes filled."""
    font = ImageFont.truetype(str(_package("fontawesomefree", "fontawesomefree") / _FONT), _DRAWN)
    return tuple(tuple(_drawing(each, font) for each in drawn) for drawn in glyphs.values())


def _drawing(glyph: str, font: ImageFont.FreeTypeFont) -> tuple[Image.Image, Image.Image]:
    left, top, right, bottom = map(int, font.getbbox(glyph))
    ink = Image.new("L", (right - left + 4, bottom - top + 4))
    ImageDraw.Draw(ink).text((2 - left, 2 - top), glyph, font=font, fill=255)
    # What the outside does not reach from the corner is the pictogram's.
    around = ink.point(lambda value: 255 * (value > 127))
    ImageDraw.floodfill(around, (0, 0), 128)
    return ink, around.point(lambda value: 255 * (value != 128))


def _package(name: str, distribution: str) -> Path:
    """Where a package's files lie; it is not imported."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise UserError(f"the pictograms need {distribution}: install dkd[demo]")
    return Path(found.submodule_search_locations[0])


class _Scenes:
    """Draws scenes over parts of photographs."""

    def __init__(
        self, settings: Data.Pictograms, grounds: tuple[Image.Image, ...], labelled: tuple[int, ...]
    ) -> None:
        self.grounds, self.size, self.labelled = grounds, settings.size, labelled
        self.drawings = _drawings(_glyphs(settings))
        self.always = (len(self.drawings) - 1,) if settings.new_class else ()

    def draw(self, rng: np.random.Generator) -> tuple[SceneArray, SceneArray]:
        """An image (size, size, 3) and its mask (size, size)."""
        size = self.size
        image = self._ground(rng)
        mask = np.zeros((size, size), np.uint8)
        taken = np.zeros((size, size), bool)
        shown = rng.integers(len(_GLYPHS), size=rng.integers(*_SHOWN, endpoint=True))
        for number in (*self.always, *map(int, shown)):
            ink, silhouette = self._shape(number, rng)
            height, width = ink.shape
            for _ in range(10):  # they do not cover each other; a full scene stays as it is
                top = int(rng.integers(0, size - height + 1))
                left = int(rng.integers(0, size - width + 1))
                area = np.s_[top : top + height, left : left + width]
                if taken[area].any():
                    continue
                _paint(image[area], ink, silhouette, rng)
                taken[area] = True
                if number + 1 in self.labelled:
                    mask[area][silhouette > 0.15] = VOID  # the blurred rim belongs to nobody
                    mask[area][silhouette > 0.5] = number + 1
                break
        image += rng.normal(0, rng.uniform(2, 8), image.shape)
        return np.clip(image, 0, 255).astype(np.uint8), mask

    def _ground(self, rng: np.random.Generator) -> _Floats:
        photograph = self.grounds[rng.integers(len(self.grounds))]
        width, height = photograph.size
        side = int(rng.uniform(0.4, 0.7) * min(width, height))
        left, top = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
        part = photograph.crop((left, top, left + side, top + side))
        part = part.resize((self.size, self.size), Image.Resampling.BILINEAR)
        if rng.random() < 0.5:
            part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels: _Floats = np.array(part, np.float64)
        pixels -= pixels.mean()
        pixels *= rng.uniform(0.35, 0.7)
        pixels += rng.uniform(70, 190)
        return pixels

    def _shape(self, number: int, rng: np.random.Generator) -> tuple[_Floats, _Floats]:
        """A class's ink and silhouette, each (height, width) in [0, 1]."""
        drawings = self.drawings[number]
        pair = drawings[rng.integers(len(drawings))]
        scale = rng.uniform(*_SIDES) * self.size / max(pair[0].size)
        wide, high = (max(4, int(side * scale * rng.uniform(0.9, 1.1))) for side in pair[0].size)
        slant, mirrored = rng.uniform(-_SLANT, _SLANT), rng.random() < 0.5

        def shaped(drawing: Image.Image) -> _Floats:
            drawing = drawing.resize((wide, high), Image.Resampling.BOX)
            if mirrored:
                drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            turned = drawing.rotate(slant, Image.Resampling.BILINEAR, expand=True)
            turned.thumbnail((self.size, self.size))
            return np.asarray(turned).astype(np.float64) / 255

        return shaped(pair[0]), shaped(pair[1])


def _paint(area: _Floats, ink: _Floats, silhouette: _Floats, rng: np.random.Generator) -> None:
    """Paints a pictogram that stands out from its ground: ink, and another shade in its holes."""
    dark, light = _colour(rng, (0, 0.45), (0.35, 1)), _colour(rng, (0.75, 1), (0, 0.7))
    if area.mean() <= 128:
        dark, light = light, dark
    for shape, colour in ((silhouette, light), (ink, dark)):
        area += shape[..., None] * (colour - area)


def _colour(
    rng: np.random.Generator, value: tuple[float, float], saturation: tuple[float, float]
) -> _Floats:
    """A colour of any hue, as RGB in 0..255."""
    parts = (rng.random(), rng.uniform(*saturation), rng.uniform(*value))
    pixel = Image.new("HSV", (1, 1), tuple(int(255 * part) for part in parts))
    colour: _Floats = np.array(pixel.convert("RGB"), np.float64)[0, 0]
    return colour
