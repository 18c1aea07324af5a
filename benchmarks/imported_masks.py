"""Masks of imported models beside their own programs', pixel by pixel.

    python benchmarks/imported_masks.py PATH_TO_VOC --photographs 100 --height 192 --width 256

Trains torchvision's and segmentation_models_pytorch's DeepLabV3 a little on photographs of VOC,
from random weights, saves each as its program does, imports it, and predicts further photographs
with both. On a CPU, in float32. A pixel that differs is a tie where the two highest logits of the
program's own network are closer than ``TIE`` times the image's largest logit.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
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
from dkd.network.prediction import segment

TIE = 1e-5
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
        small = F.interpolate(images[chosen], (96, 128), mode="bilinear")
        target = labels[chosen][:, ::2, ::2][:, :96, :128]
        optimiser.zero_grad()
        F.cross_entropy(logits_of(network, small), target, weights, ignore_index=255).backward()
        optimiser.step()
    network.eval()
    # So little training leaves one class that is seen everywhere: all begin level, and background
    # with half of the pixels.
    heads = [each for each in network.modules() if isinstance(each, nn.Conv2d)]
    (head,) = [h for h in heads if h.out_channels == CLASSES and h is not aux_of(network)]
    with torch.no_grad():
        logits = logits_of(network, images[:8])
        logits -= (middle := logits.mean((0, 2, 3), keepdim=True))
        head.bias -= middle.flatten()
        head.bias[0] += (logits[:, 1:].amax(1) - logits[:, 0]).median()


def aux_of(network: nn.Module) -> nn.Module | None:
    """The last convolution of an auxiliary classifier, which only training uses."""
    auxiliary = getattr(network, "aux_classifier", None)
    return None if auxiliary is None else auxiliary[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--photographs", type=int, default=100)
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--iterations", type=int, default=20)
    given = parser.parse_args()
    size = (given.height, given.width)
    for name, make in PROGRAMS.items():
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
        pixels = foreground = different = ties = 0
        widest = 0.0
        seen = set[int]()
        for number, (image, _) in enumerate(photographs(given.data, size)):
            if number == given.photographs:
                break
            with torch.no_grad():
                logits = logits_of(network, image[None])
            first, second = logits.topk(2, dim=1).values.unbind(1)
            expected = logits.argmax(1)
            wrong = segment(ours, image[None], size) != expected
            pixels += wrong.numel()
            foreground += int((expected > 0).sum())
            different += int(wrong.sum())
            gap = (first - second) / logits.abs().max()
            ties += int((wrong & (gap < TIE)).sum())
            widest = max(widest, float(gap[wrong].max()) if wrong.any() else 0.0)
            seen |= set(expected.unique().tolist())
        print(
            f"{name}: {pixels} pixels of {given.photographs} photographs, "
            f"{foreground / pixels:.0%} of them in a class, {len(seen)} channels seen; "
            f"{different} pixels differ, {ties} of them ties (widest {widest:.0e}); "
            f"{time.monotonic() - started:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
