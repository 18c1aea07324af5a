"""Loading a training sample on one core: ours beside a plain torchvision pipeline.

    python benchmarks/loading.py [--json loading.json] [--photographs FOLDER] [--crop 512]

A sample is a JPEG file and its mask's PNG file made into a normalised float crop and labels of
the step's new classes: VOC's 500x375 pixels and 20 classes, ADE20K's 683x512 and 150. Both
pipelines read the same files with the same random crops, on one thread; their results must agree.
The plain one is Pillow and torchvision as their tutorials have it: the whole image converted, the
crop resized by Pillow, labels replaced class by class. ``--photographs`` names a VOC folder whose
images are resized to those sizes; else photograph-like noise is drawn.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from dkd.data import on_device, transforms
from dkd.data.index import Record
from dkd.data.loading import Draw, Source, StepBatches, StepImages

SIZES = {"voc": (500, 375, 20), "ade20k": (683, 512, 150)}  # width, height, classes
TARGETS = {"voc": 10.0, "ade20k": 10.5}  # milliseconds
DECODING_TARGET = 3.5
QUALITY = 92
GROWTH = (1, 2, 4, 8)


def photographs(
    source: Path | None, count: int, width: int, height: int
) -> Iterator[tuple[Image.Image, Image.Image | None]]:
    """Images and, if they have any, masks."""
    if source is not None:
        paths = sorted((source / "JPEGImages").glob("*.jpg"))
        wide = [p for p in paths if Image.open(p).width >= Image.open(p).height]
        for path in wide[:count]:
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
        records.append(
            Record(str(number), f"{number}.jpg", f"{number}.png", height, width, (1,), "")
        )
    return records


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
    """Least CPU time of a sample over some rounds through all of them.

    CPU time, as others may use the machine too; the files are in the page cache.
    """
    work(0)
    times = []
    for _ in range(repeats):
        started = time.process_time()
        for number in range(count):
            work(number)
        times.append((time.process_time() - started) / count * 1e3)
    return min(times)


def measure(name: str, source: Path | None, count: int, size: int, repeats: int) -> dict[str, Any]:
    width, height, classes = SIZES[name]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        records = prepare(folder, source, count, width, height, classes)
        count = len(records)
        channels = {value: value for value in range(1, classes + 1)}
        table = np.zeros(256, np.uint8)
        table[[*channels, 255]] = [*channels.values(), 255]
        images = StepImages(
            [Source(records, folder, table, np.ones((count, classes), bool))], size, seed=1
        )
        uniforms = [transforms.stream(1, 0, k) for k in range(count)]
        crops = [transforms.draw_crop(height, width, u) for u in uniforms]

        def ours(k: int) -> dict[str, Any]:
            return images[Draw(k, 0, k)]

        def theirs(k: int) -> tuple[torch.Tensor, torch.Tensor]:
            return plain(folder, records[k], crops[k], size, channels)

        for k in range(count):
            pixels, labels = theirs(k)
            item = ours(k)
            assert torch.equal(item["label"], labels), "labels differ"
            # Two roundings to 8 bits, of which the least deviation makes most.
            assert (item["image"] - pixels).abs().max() < 2.01 / 255 / min(transforms.STD)
        paths = [folder / record.image for record in records]
        masks = [folder / record.mask for record in records]
        return {
            "data": name,
            "jpeg_kb": round(sum(p.stat().st_size for p in paths) / count / 1e3, 1),
            "ours_ms": milliseconds(ours, count, repeats),
            "plain_ms": milliseconds(theirs, count, repeats),
            "decoding_ms": milliseconds(
                lambda k: (transforms.read_image(paths[k]), transforms.read_mask(masks[k])),
                count,
                repeats,
            ),
            # What a worker does when the rest is done on a GPU, padding of batches included.
            "region_ms": milliseconds(
                lambda k: on_device.collate([images.region(Draw(k, 0, k))]), count, repeats
            ),
            "device_ms": device_milliseconds(images, count, size)
            if torch.cuda.is_available()
            else None,
            "target_ms": TARGETS[name],
            "growth_ms": {
                str(factor): milliseconds(lambda k: ours(k % count), factor * count, 3)
                for factor in GROWTH
            },
        }


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


def order_milliseconds(images: int) -> float:
    """An epoch's order: permutation and batches."""
    batches = StepBatches(images, 32, seed=1)
    return milliseconds(lambda epoch: list(batches.batches(epoch)), 2, 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--photographs", type=Path, help="a folder in VOC's layout")
    parser.add_argument("--crop", type=int, default=512)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        measure(name, options.photographs, options.images, options.crop, options.repeats)
        for name in SIZES
    ]
    orders = {str(10_000 * factor): order_milliseconds(10_000 * factor) for factor in GROWTH}
    print(f"One sample to a {options.crop} crop, one core, milliseconds")
    print("| data | JPEG kB | plain | ours | ratio | at most | decoding files |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        ratio = row["plain_ms"] / row["ours_ms"]
        print(
            f"| {row['data']} | {row['jpeg_kb']} | {row['plain_ms']:.2f} | {row['ours_ms']:.2f} | "
            f"{ratio:.1f} | {row['target_ms']} | {row['decoding_ms']:.2f} |"
        )
    print("\nThe same with a GPU doing the second half, milliseconds")
    print("| data | core | at most | GPU |")
    print("|---|---|---|---|")
    for row in rows:
        device = "not measured" if row["device_ms"] is None else f"{row['device_ms']:.3f}"
        print(f"| {row['data']} | {row['region_ms']:.2f} | {DECODING_TARGET} | {device} |")
    print("\nMilliseconds per sample as images grow, and of an epoch's order")
    print("| | " + " | ".join(f"x{factor}" for factor in GROWTH) + " |")
    print("|---" * (len(GROWTH) + 1) + "|")
    for row in rows:
        print(
            f"| {row['data']} | " + " | ".join(f"{t:.2f}" for t in row["growth_ms"].values()) + " |"
        )
    print("| order of 10,000 images | " + " | ".join(f"{t:.1f}" for t in orders.values()) + " |")
    if options.json:
        document = {"crop": options.crop, "loading": rows, "order_ms": orders}
        options.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
