"""Whether a data set is whole, and whether it is the one of the published tables."""

import hashlib
import json
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import cast

from dkd.data import splits
from dkd.data.formats import Layout
from dkd.data.formats.layout import there
from dkd.data.index import Dataset
from dkd.data.records import Record, Records
from dkd.errors import UserError
from dkd.scenario.schema import Setting
from dkd.scenario.tasks import Task

PUBLISHED_FORMATS = ("voc", "ade20k")
"""Formats whose splits and lists are published, and kept with the program."""


@dataclass(frozen=True)
class MissingFiles:
    """Files of one kind that a split promises and the folder does not have."""

    split: str
    kind: str
    paths: tuple[str, ...]
    of: int

    def __str__(self) -> str:
        return f"{self.split}: {len(self.paths)} of {self.of} {self.kind} are missing: " + _some(
            self.paths
        )


def missing(layout: Layout) -> list[MissingFiles]:
    """What a layout promises and its folder lacks, without opening any file."""
    root = Path(layout.root)
    found = []
    for split, pairs in layout.splits.items():
        for kind, paths in (
            ("images", [p.image for p in pairs]),
            ("masks", [p.mask for p in pairs]),
        ):
            gone = tuple(p for p in paths if p not in layout.made and not there(root / p))
            if gone:
                found.append(MissingFiles(split, kind, gone, len(pairs)))
    return found


def summary(dataset: Dataset) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Two tables, rows below the columns' names: the splits' counts and sizes in pixels, and the
    classes with their images in each split.
    """
    splits: list[tuple[str, ...]] = [
        ("split", "images", "width (median)", "height (median)", "without classes")
    ]
    for split, records in dataset.splits.items():
        width, height = (
            _range(n) for n in ((r.width for r in records), (r.height for r in records))
        )
        empty = sum(not r.classes for r in records)
        splits.append((split, str(len(records)), width, height, str(empty)))
    held = {
        split: Counter(value for r in records for value in r.classes)
        for split, records in dataset.splits.items()
    }
    classes: list[tuple[str, ...]] = [("value", "class", *held)]
    for value, name in sorted(dataset.classes.items()):
        classes.append((str(value), name, *(str(counts[value]) for counts in held.values())))
    return splits, classes


def differences(dataset: Dataset) -> list[str]:
    """How a VOC or ADE20K data set differs from the one of the published tables.

    Compared are the splits' lists and the lists of every published task and setting, by number
    of images and digest of their ids. The released lists of ADE 100-10 and 100-5, step 0, have
    18 images fewer than the definition gives; they are not among them.

    Returns:
        one line per difference; none for the published data set.

    Raises:
        UserError: nothing is published of the format.
    """
    if dataset.name not in PUBLISHED_FORMATS:
        raise UserError(
            f"{dataset.name}: no published lists; there are {', '.join(PUBLISHED_FORMATS)}"
        )
    text = (resources.files("dkd.data") / "published_lists.json").read_text(encoding="utf-8")
    expected = json.loads(text)[dataset.name]
    lines = []
    for split in ("train", "validation"):
        count, digest = expected[split]
        ids = {r.id for r in dataset.splits[split]}
        if _ids_digest(dataset.splits[split]) != digest:
            lines.append(f"{split}: {len(ids)} images, published {count}{_lacking(dataset, split)}")
    if lines:
        return lines  # every list of a task would differ too
    for key, (count, digest) in expected.items():
        if key in ("train", "validation"):
            continue
        setting, name, split, step = key.split("/")
        task = published_task(dataset, name)
        try:
            records = _list(dataset, task, cast(Setting, setting), split, int(step))
        except UserError as error:
            lines.append(f"{key}: {error}")
            continue
        if _ids_digest(records) != digest:
            lines.append(
                f"{key}: {len(records)} images, published {count}: masks hold other classes"
            )
    return lines


def published_task(dataset: Dataset, name: str) -> Task:
    """The task of a name such as ``15-1``: so many classes at first, so many at each later step."""
    first, later = (int(number) for number in name.split("-"))
    values = sorted(dataset.classes)
    bounds = [0, *range(first, len(values) + 1, later)]
    return Task.of([values[a:b] for a, b in pairwise(bounds)], dataset.classes)


def _list(dataset: Dataset, task: Task, setting: Setting, split: str, step: int) -> Records:
    match split:
        case "train":
            return splits.training(dataset, task, setting, step)
        case "val":
            return splits.validation(dataset, task, step)
        case _:
            return splits.test(dataset, task, step)


def _lacking(dataset: Dataset, split: str) -> str:
    """Which images are not there, where the published ids are numbers without a gap."""
    if dataset.name != "ade20k":
        return ""
    short, count = {"train": ("train", 20210), "validation": ("val", 2000)}[split]
    published = {f"ADE_{short}_{number:08}" for number in range(1, count + 1)}
    ids = {r.id for r in dataset.splits[split]}
    parts = []
    if gone := sorted(published - ids):
        parts.append(f"; missing: {_some(gone)}")
    if more := sorted(ids - published):
        parts.append(f"; not published: {_some(more)}")
    return "".join(parts)


def _ids_digest(records: Iterable[Record]) -> str:
    ids = "\n".join(sorted(record.id for record in records))
    return hashlib.sha256(ids.encode()).hexdigest()


def _range(numbers: Iterable[int]) -> str:
    values = list(numbers)
    return f"{min(values)}..{max(values)} ({statistics.median_low(values)})"


def _some(items: Iterable[str], most: int = 5) -> str:
    every = list(items)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
