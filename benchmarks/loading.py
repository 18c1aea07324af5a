"""Loading a training sample on one core: ours beside a plain torchvision pipeline.

    python -m benchmarks --only loading

A sample is a JPEG file and its mask's PNG file made into a normalised float crop and labels of
the step's new classes: VOC's 500x375 pixels and 20 classes, ADE20K's 683x512 and 150. Both
pipelines read the same files with the same random crops, on one thread; their results must agree.
The plain one is Pillow and torchvision as their tutorials have it: the whole image converted, the
crop resized by Pillow, labels replaced class by class. Photographs beside the checkout are resized
to those sizes; without any, photograph-like noise is drawn.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from benchmarks.cases import PHOTOGRAPHS
from benchmarks.rows import CPU, GPU, Row, cpu_seconds
from dkd.data import contents, on_device, transforms
from dkd.data.loading import Draw, Source, StepImages
from dkd.data.records import Record

GROUP = "loading"
SIZES = {"VOC": (500, 375, 20), "ADE20K": (683, 512, 150)}  # width, height, classes
LIMITS = {"VOC": 10.0, "ADE20K": 10.5}  # milliseconds
PREDICTED = {"VOC": 8.0, "ADE20K": 10.0}  # decoding, resizing and looking up, each as known alone
DECODING_LIMIT = 3.5
VERIFYING_LIMIT = 0.05  # of a sample's time
VERIFIED_PER_MS = 1500  # kB, by a processor that has instructions for SHA-256
DECODING_PREDICTED = {"VOC": 3.2, "ADE20K": 5.5}
QUALITY = 92


def photographs(
    source: Path | None, count: int, width: int, height: int
) -> Iterator[tuple[Image.Image, Image.Image | None]]:
    """Images and, if they have any, masks."""
    if source is not None:
        paths = sorted((source / "JPEGImages").glob("*.jpg"))
        wide = (p for p in paths if Image.open(p).width >= Image.open(p).height)
        for path in islice(wide, count):
            masks = [
                source / f / f"{path.stem}.png"
                for f in ("SegmentationClassAug", "SegmentationClass")
            ]
            mask = Image.open(next(m for m in masks if m.is_file()))
            yield Image.open(path).resize((width, height)), mask.resize((width, height), 0)
        return
    rng = np.random.default_rng(1)
    for _ in range(count):
        # Detail at every scale, weaker the finer, as in photographs.
        total = np.zeros((height, width, 3))
        for octave in range(7):
            cells = 3 * 2**octave
            noise = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
            layer = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
            total += (np.asarray(layer, np.float64) - 128) * 0.62**octave
        yield Image.fromarray(np.clip(total + 128, 0, 255).astype(np.uint8)), None


def prepare(
    folder: Path, source: Path | None, count: int, width: int, height: int, classes: int
) -> list[Record]:
    """Writes the files, masks showing a handful of the classes each."""
    rng = np.random.default_rng(2)
    records = []
    for number, (image, mask) in enumerate(photographs(source, count, width, height)):
        if mask is None or classes > 20:
            cells = rng.integers(0, classes + 1, (6, 8), dtype=np.uint8)
            mask = Image.fromarray(cells).resize((width, height), Image.Resampling.NEAREST)
        image.save(folder / f"{number}.jpg", quality=QUALITY)
        mask.save(folder / f"{number}.png")
        record = Record(str(number), f"{number}.jpg", f"{number}.png", height, width, (1,), "")
        records.append(indexed(folder, record))
    return records


def indexed(folder: Path, record: Record) -> Record:
    """The record with the digest of its files."""
    return replace(record, digest=contents.digest(*contents.read(folder, record, verify=False)))


def plain(
    folder: Path, record: Record, crop: transforms.Crop, size: int, channels: dict[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same sample by Pillow and torchvision's functions."""
    image = Image.open(folder / record.image).convert("RGB")
    mask = Image.open(folder / record.mask)
    box = (crop.top, crop.left, crop.height, crop.width)
    image = F.resized_crop(image, *box, [size, size], InterpolationMode.BILINEAR)
    mask = F.resized_crop(mask, *box, [size, size], InterpolationMode.NEAREST)
    if crop.flip:
        image, mask = F.hflip(image), F.hflip(mask)
    pixels = F.normalize(F.to_tensor(image), list(transforms.MEAN), list(transforms.STD))
    values = np.array(mask)
    labels = np.zeros_like(values)
    labels[values == 255] = 255
    for value, channel in channels.items():
        labels[values == value] = channel
    return pixels, torch.from_numpy(labels)


def milliseconds(work: Callable[[int], object], count: int, repeats: int) -> float:
    """Least CPU time of a sample over some rounds through all of them; files are in memory."""

    def through() -> None:
        for number in range(count):
            work(number)

    work(0)
    return 1e3 * cpu_seconds(through, repeats) / count


def made(
    folder: Path, name: str, count: int, crop: int
) -> tuple[StepImages, list[Record], dict[int, int]]:
    """The step's images of a data set's kind, their records and the channel by label value."""
    width, height, classes = SIZES[name]
    source = PHOTOGRAPHS if PHOTOGRAPHS.is_dir() else None
    records = prepare(folder, source, count, width, height, classes)
    channels = {value: value for value in range(1, classes + 1)}
    table = np.zeros(256, np.uint8)
    table[[*channels, 255]] = [*channels.values(), 255]
    everywhere = np.ones((len(records), classes), bool)
    return StepImages([Source(records, folder, table, everywhere)], crop, seed=1), records, channels


def measure(name: str, count: int, crop: int, repeats: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        images, records, channels = made(folder, name, count, crop)
        count = len(records)
        size = (records[0].height, records[0].width)
        crops = [transforms.draw_crop(*size, transforms.stream(1, 0, k)) for k in range(count)]

        def ours(k: int) -> dict[str, Any]:
            return images[Draw(k, 0, k)]

        def theirs(k: int) -> tuple[torch.Tensor, torch.Tensor]:
            return plain(folder, records[k], crops[k], crop, channels)

        for k in range(count):
            pixels, labels = theirs(k)
            item = ours(k)
            assert torch.equal(item["label"], labels), "labels differ"
            # Two roundings to 8 bits, of which the least deviation makes most.
            assert (item["image"] - pixels).abs().max() < 2.01 / 255 / min(transforms.STD)
        files = [contents.read(folder, record) for record in records]
        kilobytes = sum(len(image) for image, _ in files) / count / 1e3
        drawn = "photographs" if PHOTOGRAPHS.is_dir() else "noise"
        note = f"{size[1]}x{size[0]} {drawn} of {kilobytes:.0f} kB to {crop}"
        plain_ms = milliseconds(theirs, count, repeats)
        decoding = milliseconds(
            lambda k: contents.decode(
                folder, records[k], *contents.read(folder, records[k], False)
            ),
            count,
            repeats,
        )
        # Once in a run and rank, when a file is first read: in no round that is measured below.
        verifying = milliseconds(lambda k: contents.digest(*files[k]), count, repeats)
        # What a worker does when the rest is done on a GPU, padding of batches included.
        region = milliseconds(
            lambda k: on_device.collate([images.region(Draw(k, 0, k))]), count, repeats
        )
        whole = milliseconds(ours, count, repeats)
        finished = device_milliseconds(images, count, crop) if torch.cuda.is_available() else None
        return [
            Row(
                GROUP,
                f"{name}, CPU path",
                "ms/image and core",
                whole,
                baseline=plain_ms,
                limit=LIMITS[name],
                predicted=PREDICTED[name],
                note=note,
            ),
            Row(
                GROUP,
                f"{name}, decoding alone",
                "ms/image and core",
                decoding,
                note=note,
            ),
            Row(
                GROUP,
                f"{name}, verifying, once per file",
                "ms/image and core",
                verifying,
                limit=VERIFYING_LIMIT * whole,
                predicted=kilobytes / VERIFIED_PER_MS,
                note=note,
            ),
            Row(
                GROUP,
                f"{name}, GPU path, the core's part",
                "ms/image and core",
                region,
                baseline=plain_ms,
                # The limit is one of decoding VOC's images.
                limit=DECODING_LIMIT if name == "VOC" else None,
                predicted=DECODING_PREDICTED[name],
                note=note,
            ),
            Row(
                GROUP,
                f"{name}, GPU path, the GPU's part",
                "ms/image",
                finished,
                device=GPU,
                predicted=0.05,
                note=f"batch of 32 to {crop}",
            ),
        ]


def device_milliseconds(images: StepImages, count: int, size: int) -> float:
    """The GPU's time for an image of a batch of 32, copy included."""
    device = torch.device("cuda")
    draws = [Draw(k % count, 0, k) for k in range(32)]
    batch = on_device.collate([images.region(draw) for draw in draws])
    batch = {k: v.pin_memory() if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    finish = on_device.Finisher(size, device)
    for _ in range(3):
        finish(batch)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(20):
        finish(batch)
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 20 / 32


def rows(quick: bool, on: Sequence[str] = (CPU, GPU)) -> list[Row]:
    count, crop, repeats = (2, 64, 1) if quick else (48, 512, 5)
    if CPU not in on:
        count, repeats = min(count, 8), 1
    found = [row for name in SIZES for row in measure(name, count, crop, repeats)]
    return [row for row in found if row.device in on]
