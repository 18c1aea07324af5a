"""Masks of imported models beside their own programs', pixel by pixel.

    python -m benchmarks.imported_masks PATH_TO_VOC --photographs 100 --height 192 --width 256

Trains torchvision's and segmentation_models_pytorch's DeepLabV3 a little on photographs of VOC,
from random weights, saves each as its program does, imports it, and predicts further photographs
with both. On a CPU, in float32.

Every pixel that differs is named, and looked at in float64, where both networks are computed
again, the converted one with a head whose differences of weights are taken in float64: it is a tie
where they agree then, and the lead of the class that one of them chose over the other's is smaller
than what float32 had rounded away.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from dkd.data import transforms
from dkd.network import foreign
from dkd.network.deeplab import SegmentationModel
from dkd.network.prediction import segment

CLASSES = 21
tv = torchvision.models.segmentation

PROGRAMS: dict[str, Callable[[], nn.Module]] = {
    "torchvision resnet50": lambda: tv.deeplabv3_resnet50(
        weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True
    ),
    "torchvision mobilenet_v3_large": lambda: tv.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=CLASSES
    ),
    "smp resnet34": lambda: smp.DeepLabV3("resnet34", encoder_weights=None, classes=CLASSES),
}


def logits_of(network: nn.Module, images: Tensor) -> Tensor:
    """What the program's own network says, at the images' size."""
    found = network(images)
    return found["out"] if isinstance(found, dict) else found


def photographs(root: Path, size: tuple[int, int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised images and label values, both of ``size``, in order of their names."""
    for mask in sorted((root / "SegmentationClass").glob("*.png")):
        with Image.open(root / "JPEGImages" / f"{mask.stem}.jpg") as opened:
            image = transforms.resize(transforms.to_tensor(opened.convert("RGB")), *size)
        with Image.open(mask) as opened:
            label = torch.from_numpy(transforms.nearest(np.array(opened), *size).copy())
        yield transforms.normalise(image), label.long()


def train(network: nn.Module, images: Tensor, labels: Tensor, iterations: int) -> None:
    """With little weight on background, so that masks are not empty."""
    weights = torch.full((CLASSES,), 1.0)
    weights[0] = 0.1
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    network.train()
    for iteration in range(iterations):
        chosen = torch.arange(iteration * 4, iteration * 4 + 4) % len(images)
        small = F.interpolate(images[chosen], scale_factor=0.5, mode="bilinear")
        target = labels[chosen][:, ::2, ::2]
        optimiser.zero_grad()
        F.cross_entropy(logits_of(network, small), target, weights, ignore_index=255).backward()
        optimiser.step()
    network.eval()
    # So little training leaves one class that is seen everywhere: all begin level, and background
    # with half of the pixels.
    head = head_of(network)
    with torch.no_grad():
        logits = logits_of(network, images[:8])
        logits -= (middle := logits.mean((0, 2, 3), keepdim=True))
        head.bias -= middle.flatten()
        head.bias[0] += (logits[:, 1:].amax(1) - logits[:, 0]).median()


def head_of(network: nn.Module) -> nn.Conv2d:
    """The last convolution."""
    all_of_them = [each for each in network.modules() if isinstance(each, nn.Conv2d)]
    (head,) = [h for h in all_of_them if h.out_channels == CLASSES and h is not aux_of(network)]
    return head


def aux_of(network: nn.Module) -> nn.Module | None:
    """The last convolution of an auxiliary classifier, which only training uses."""
    auxiliary = getattr(network, "aux_classifier", None)
    return None if auxiliary is None else auxiliary[-1]


@dataclass(frozen=True)
class Difference:
    """A pixel in which two networks see something else.

    Attributes:
        photograph: number in the order of names.
        pixel: row and column.
        channels: the program's and ours.
        lead: of the program's channel over ours, logits of its network in float64.
        rounding: how far float32 is from that: the program's network, and ours.
        agree: whether both networks' masks are the same here in float64.
    """

    photograph: int
    pixel: tuple[int, int]
    channels: tuple[int, int]
    lead: float
    rounding: tuple[float, float]
    agree: bool

    @property
    def tie(self) -> bool:
        return self.agree and abs(self.lead) <= max(self.rounding)

    def __str__(self) -> str:
        theirs, ours = self.channels
        return (
            f"  photograph {self.photograph}, row {self.pixel[0]}, column {self.pixel[1]}: "
            f"{theirs} there, {ours} here; lead {self.lead:.1e} in float64, float32 rounds by "
            f"{self.rounding[0]:.1e} there and {self.rounding[1]:.1e} here: "
            f"{'a tie' if self.tie else 'NO TIE'}"
        )


@torch.no_grad()
def differences(
    photograph: int, network: nn.Module, ours: SegmentationModel, image: Tensor
) -> list[Difference]:
    """Pixels of an image (1 x 3 x H x W) in which the networks' masks differ."""
    size = (image.shape[-2], image.shape[-1])
    single = logits_of(network, image)[0], ours.logits(ours.features(image), size)[0]
    theirs, mine = single[0].argmax(0), segment(ours, image, size)[0].long()
    places = (theirs != mine).nonzero().tolist()
    if not places:
        return []
    exact, converted = (copy.deepcopy(each).double() for each in (network, ours))
    # Differences of the head's weights are kept in float32: that too is rounding.
    theirs_exact, head = head_of(exact), converted.head(1)
    for name in ("weight", "bias"):
        whole = getattr(theirs_exact, name)
        getattr(head, name).copy_(whole[1:] - whole[:1])
    double = logits_of(exact, image.double())[0]
    agreed = double.argmax(0) == segment(converted, image.double(), size)[0]

    def lead(logits: Tensor, row: int, column: int, own: bool) -> float:
        at = logits[:, row, column].double()
        if own:  # channel 0 is not background here, whose logit is 0
            at = torch.cat((at.new_zeros(1), at[1:]))
        return float(at[theirs[row, column]] - at[mine[row, column]])

    found = []
    for row, column in places:
        true = lead(double, row, column, own=False)
        rounding = (
            abs(lead(single[0], row, column, own=False) - true),
            abs(lead(single[1], row, column, own=True) - true),
        )
        channels = int(theirs[row, column]), int(mine[row, column])
        if 0 in channels:  # whether a class is seen at all: a sigmoid is compared with one half
            rounding = (rounding[0], rounding[1] + 2**-23)
        agree = bool(agreed[row, column])
        found.append(Difference(photograph, (row, column), channels, true, rounding, agree))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--photographs", type=int, default=100)
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--only", choices=PROGRAMS, help="one of the networks")
    given = parser.parse_args()
    size = (given.height, given.width)
    for name, make in PROGRAMS.items():
        if given.only not in (None, name):
            continue
        torch.manual_seed(1)
        started = time.monotonic()
        source = photographs(given.data, size)
        pairs = [next(source) for _ in range(32)]
        network = make()
        images, labels = map(torch.stack, zip(*pairs, strict=True))
        train(network, images, labels, given.iterations)
        with tempfile.TemporaryDirectory() as folder:
            torch.save(network.state_dict(), Path(folder) / "model.pth")
            found = foreign.recognise(Path(folder) / "model.pth")
        ours = found.converted(CLASSES - 1).model([CLASSES - 1]).eval()
        pixels = foreground = 0
        different = list[Difference]()
        seen = set[int]()
        for number, (image, _) in enumerate(photographs(given.data, size)):
            if number == given.photographs:
                break
            with torch.no_grad():
                expected = logits_of(network, image[None]).argmax(1)
            different += differences(number, network, ours, image[None])
            pixels += expected.numel()
            foreground += int((expected > 0).sum())
            seen |= set(expected.unique().tolist())
        ties = sum(each.tie for each in different)
        print(
            f"{name}: {pixels} pixels of {given.photographs} photographs, "
            f"{foreground / pixels:.0%} of them in a class, {len(seen)} channels seen; "
            f"{len(different)} pixels differ, {ties} of them ties; "
            f"{time.monotonic() - started:.0f} s",
            *map(str, different),
            sep="\n",
            flush=True,
        )


if __name__ == "__main__":
    main()
