"""From files to training crops and evaluation images, on one core as fast as decoding allows.

What is decoded is cropped first, while it is small and 8-bit; only the crop is resized, and only
the result becomes floating point. Every random number comes in from outside, so that a crop is a
function of the files and of its place in the run (:func:`stream`).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dkd.data.channels import Channels
from dkd.data.labels import Table
from dkd.scenario.imagenet import MEAN, STD

AREA = (0.5, 2.0)
ASPECT = (3 / 4, 4 / 3)
TRIES = 10
_DRAWS = 2 * TRIES + 3

Uniforms = npt.NDArray[np.float64]

SCALE = torch.tensor([1 / (255 * s) for s in STD])[:, None, None]
SHIFT = torch.tensor([-m / s for m, s in zip(MEAN, STD, strict=True)])[:, None, None]
"""What takes 8-bit RGB there: ``pixel * SCALE + SHIFT``, each 3 x 1 x 1."""


@dataclass(frozen=True)
class Crop:
    """A region of an image in pixels, and whether it is mirrored left to right."""

    top: int
    left: int
    height: int
    width: int
    flip: bool = False

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom: as Pillow has it."""
        return self.left, self.top, self.left + self.width, self.top + self.height


def raw_stream(
    purpose: int, seed: int, epoch: int, position: int, count: int
) -> npt.NDArray[np.uint64]:
    """``count`` random 64-bit words that depend on the arguments and on nothing else.

    A counter-based generator (Philox 4x64, NumPy's ``random_raw``, whose stream is fixed): there
    is no state to carry, so ranks, loader workers and resumed runs agree.
    """
    key = np.array([seed, purpose], np.uint64)
    counter = np.array([0, 0, position, epoch], np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count)


def stream(seed: int, epoch: int, position: int) -> Uniforms:
    """The numbers in [0, 1) that decide one sample's augmentation.

    Args:
        seed: the run's.
        epoch: counted from 0.
        position: of the sample in the epoch's order over all ranks.
    """
    words = raw_stream(1, seed, epoch, position, _DRAWS)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw_crop(height: int, width: int, uniforms: Uniforms) -> Crop:
    """A random crop: area 0.5 to 2 times the image's, aspect 3/4 to 4/3, log-uniform.

    As torchvision's RandomResizedCrop: a try that does not fit is drawn again, ten times at most
    (areas above 1 never fit); then it is the largest centred region with an allowed aspect.

    Args:
        height: of the image.
        width: of the image.
        uniforms: from :func:`stream`.
    """
    flip = bool(uniforms[0] < 0.5)
    low, high = math.log(ASPECT[0]), math.log(ASPECT[1])
    for k in range(TRIES):
        area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * uniforms[3 + 2 * k])
        aspect = math.exp(low + (high - low) * uniforms[4 + 2 * k])
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(uniforms[1] * (height - h + 1))
            left = int(uniforms[2] * (width - w + 1))
            return Crop(top, left, h, w, flip)
    h, w = height, width
    if width < height * ASPECT[0]:
        h = max(1, round(width / ASPECT[0]))
    elif width > height * ASPECT[1]:
        w = max(1, round(height * ASPECT[1]))
    return Crop((height - h) // 2, (width - w) // 2, h, w, flip)


def training_sample(
    image: Image.Image, mask: Image.Image, table: Table, size: int, crop: Crop
) -> tuple[Tensor, Tensor]:
    """The crop, resized to a square and normalised, and its labels.

    Args:
        image: RGB.
        mask: label values, of the image's size.
        table: channel number by label value.
        size: side of the result.
        crop: which region.

    Returns:
        float32 3 x size x size (bilinear, antialiased where it shrinks) and labels size x size
        (nearest neighbour), of the table's type.
    """
    pixels, labels = resized_region(image, mask, table, size, crop)
    return normalise(pixels), labels


def resized_region(
    image: Image.Image, mask: Image.Image, table: Table, size: int, crop: Crop
) -> tuple[Tensor, Tensor]:
    """As :func:`training_sample`, but the image still uint8."""
    pixels, labels = to_tensor(image.crop(crop.box)), look_up(mask.crop(crop.box), table)
    if crop.flip:
        pixels, labels = pixels.flip(-1), labels[:, ::-1]
    return resize(pixels, size, size), torch.from_numpy(nearest(labels, size, size))


def evaluation_sample(
    image: Image.Image, mask: Image.Image, table: Table, size: int, whole: bool
) -> tuple[Tensor, Tensor]:
    """The image with its short side resized to ``size``, and labels to score it with.

    Args:
        image: RGB.
        mask: label values, of the image's size.
        table: channel number by label value.
        size: of the short side in the result.
        whole: the whole image, with labels at the original size; else the centre crop
            size x size of both (the published protocol).

    Returns:
        float32 3 x h x w and labels of the table's type, h x w or H x W.
    """
    height, width = mask.height, mask.width
    if height <= width:
        h, w = size, int(size * width / height)
    else:
        h, w = int(size * height / width), size
    resized = resize(to_tensor(image), h, w)
    labels = look_up(mask, table)
    if whole:
        return normalise(resized), torch.from_numpy(labels)
    top, left = round((h - size) / 2), round((w - size) / 2)
    window = np.s_[top : top + size, left : left + size]
    return (
        normalise(resized[:, window[0], window[1]]),
        torch.from_numpy(np.ascontiguousarray(nearest(labels, h, w)[window])),
    )


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """uint8 C x H x W to uint8 C x height x width: bilinear, antialiased where it shrinks."""
    resized = F.interpolate(
        image[None], (height, width), mode="bilinear", align_corners=False, antialias=True
    )
    return resized[0]


def nearest(labels: Channels, height: int, width: int) -> Channels:
    """Labels H x W to height x width: the pixel under the centre of each new one."""
    h, w = labels.shape
    rows = (2 * np.arange(height) + 1) * h // (2 * height)
    columns = (2 * np.arange(width) + 1) * w // (2 * width)
    picked: Channels = labels.take(rows, axis=0).take(columns, axis=1)
    return picked


def normalise(image: Tensor) -> Tensor:
    """uint8 RGB to float32 with ImageNet's mean and deviation; 3 x H x W."""
    return image.to(torch.float32, memory_format=torch.contiguous_format).mul_(SCALE).add_(SHIFT)


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB image as uint8, 3 x H x W (channels last in memory)."""
    data = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return data.view(image.height, image.width, 3).permute(2, 0, 1)


def look_up(mask: Image.Image, table: Table) -> Channels:
    """Channel numbers of a mask's label values, H x W, of the table's type."""
    if mask.mode == "I;16" or table.dtype != np.uint8:
        found: Channels = table[np.asarray(mask)]
        return found
    # bytes.translate is several times faster than indexing with an array.
    data = bytearray(mask.tobytes().translate(table[:256].tobytes()))
    return np.frombuffer(data, np.uint8).reshape(mask.height, mask.width)
