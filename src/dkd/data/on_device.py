"""The second half of loading on a GPU: workers decode and cut, the device does the arithmetic.

A region of 8-bit pixels is several times smaller than the float crop made of it, so less is
copied too. A whole batch is resized by two batched matrix products (bilinear resizing is linear
and separable; the matrices hold Pillow's antialiasing weights), and nothing waits for the device.
The result is that of :func:`dkd.data.transforms.training_sample`, of the same random numbers, but
for the last bit of an 8-bit pixel.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from dkd.data.transforms import SCALE, SHIFT


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stacks regions of different sizes, padded at the bottom and right.

    Args:
        items: of :meth:`dkd.data.loading.StepImages.region`.

    Returns:
        uint8 ``pixels`` N x 3 x H x W, ``label`` N x H x W, ``size`` (N x 2: h, w), ``flip``
        and ``covered`` as tensors; ``id`` as a list.
    """
    size = torch.tensor([item["label"].shape for item in items])
    height, width = (int(n) for n in size.amax(0))
    pixels = torch.zeros(len(items), 3, height, width, dtype=torch.uint8)
    labels = items[0]["label"].new_zeros(len(items), height, width)
    for number, item in enumerate(items):
        h, w = item["label"].shape
        pixels[number, :, :h, :w] = item["pixels"]
        labels[number, :h, :w] = item["label"]
    return {
        "pixels": pixels,
        "label": labels,
        "size": size,
        "flip": torch.tensor([item["flip"] for item in items]),
        "covered": torch.stack([item["covered"] for item in items]),
        "id": [item["id"] for item in items],
    }


class Finisher:
    """Makes training batches of what :func:`collate` returns.

    Args:
        crop: side of the crops, in pixels.
        device: where it is done.
    """

    def __init__(self, crop: int, device: torch.device) -> None:
        self.crop, self.device = crop, device
        self.scale, self.shift = SCALE.to(device), SHIFT.to(device)

    @torch.no_grad()
    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """``image`` float32 N x 3 x crop x crop, ``label``, ``covered`` and ``id``."""
        moved = move(batch, self.device)
        pixels, labels, size = moved["pixels"], moved["label"], moved["size"]
        outputs = torch.arange(self.crop, device=self.device)
        height, width, flip = size[:, :1], size[:, 1:], moved["flip"][:, None]
        down = resizing(height, pixels.shape[2], self.crop)
        across = resizing(width, pixels.shape[3], self.crop)
        across = torch.where(flip[:, :, None], across.flip(1), across)
        image = (down[:, None] @ (pixels.float() @ across.mT[:, None])).round_()
        image = image.mul_(self.scale).add_(self.shift)

        y = (2 * outputs + 1) * height // (2 * self.crop)
        x = (2 * outputs + 1) * width // (2 * self.crop)
        x = torch.where(flip, width - 1 - x, x)
        samples = torch.arange(len(size), device=self.device)[:, None, None]
        label = labels[samples, y[:, :, None], x[:, None, :]]
        return {"image": image, "label": label, "covered": moved["covered"], "id": moved["id"]}


def move(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The batch with its tensors on a device; from page-locked memory nothing waits for that."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for name, value in batch.items()
    }


def beside(
    batches: Iterable[dict[str, Any]],
    finish: Callable[[dict[str, Any]], dict[str, Any]],
    device: torch.device,
) -> Iterator[dict[str, Any]]:
    """Finishes batches on a stream of its own, beside the computation's.

    The host is an iteration ahead of the device, so a batch is copied and finished while the
    device computes with the one before. On a CPU there are no streams, and nothing to gain.

    Args:
        batches: from the host.
        finish: what is done with each on the device, without waiting for it.
        device: where.

    Yields:
        Finished batches; whatever is queued on the current stream may use them.
    """
    if device.type != "cuda":
        yield from map(finish, batches)
        return
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    for batch in batches:
        with torch.cuda.stream(side):
            finished = finish(batch)
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(side)
        for value in finished.values():
            if isinstance(value, Tensor) and value.is_cuda:
                value.record_stream(computing)  # or its memory would be given away too early
        yield finished


def resizing(size: Tensor, padded: int, crop: int) -> Tensor:
    """Matrices that resize ``size`` pixels to ``crop``: bilinear, antialiased where it shrinks.

    Args:
        size: pixels that there are, N x 1.
        padded: pixels with the padding, which gets no weight.
        crop: output pixels.

    Returns:
        float32, N x crop x padded; rows sum to 1.
    """
    ratio = size.float()[:, :, None] / crop
    centre = (torch.arange(crop, device=size.device)[:, None] + 0.5) * ratio
    inputs = torch.arange(padded, device=size.device)
    distance = (inputs + 0.5 - centre).abs()
    weight = (1 - distance / ratio.clamp(min=1)).clamp(min=0) * (inputs < size[:, :, None])
    return weight / weight.sum(-1, keepdim=True)
