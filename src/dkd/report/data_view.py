"""One page on which a person sees whether labels sit where they should: images with their masks."""

import base64
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from PIL import Image

from dkd.data import contents
from dkd.data.index import Dataset
from dkd.data.palettes import Colour
from dkd.data.records import Record
from dkd.scenario.tasks import WIDE_VOID, Task

SIDE = 360
"""Most pixels of a picture's longer side."""

_TINT, _EDGE = 130, 255  # how opaque a class's colour is, of 255
_DARK = 80  # luminance, of 255
_VOID_STRIPE, _VOID_GAP = (255, 255, 255, 190), (60, 60, 60, 110)


def chosen(dataset: Dataset, count: int) -> list[tuple[str, Record]]:
    """Images to show, with their splits: of the rarest class first, then of the next, in rounds.

    Of a class they come in the order of their ids' SHA-256, so that the same data set gives the
    same images and its order in the folder none. The first image without a class is shown too.

    Args:
        dataset: any.
        count: how many at most.
    """
    every = [(split, record) for split, records in dataset.splits.items() for record in records]
    every.sort(key=lambda each: hashlib.sha256(each[1].id.encode()).digest())
    held = Counter(value for _, record in every for value in record.classes)
    queues = [
        [each for each in every if value in each[1].classes]
        for value in sorted(held, key=lambda value: (held[value], value))
    ]
    queues.append([each for each in every if not each[1].classes][:1])
    taken: dict[tuple[str, str], tuple[str, Record]] = {}
    while any(queues) and len(taken) < count:
        for queue in queues:
            while queue and (queue[0][0], queue[0][1].id) in taken:
                queue.pop(0)
            if queue and len(taken) < count:
                split, record = queue.pop(0)
                taken[split, record.id] = (split, record)
    return list(taken.values())


def render(
    dataset: Dataset,
    folder_of: Callable[[Sequence[Record]], Path],
    count: int,
    task: Task | None = None,
) -> str:
    """The page.

    Args:
        dataset: any.
        folder_of: gives the folder in which records' paths lie.
        count: of images, at most.
        task: whose steps are counted too.

    Returns:
        HTML, self-contained: pictures are data URIs, the style sheet is inside, no script.

    Raises:
        UserError: an image or mask cannot be read, or changed since it was indexed.
    """
    shown = chosen(dataset, count)
    folder = folder_of([record for _, record in shown])
    classes = _classes(dataset, task)
    by_value = {row["value"]: row for row in classes}
    pictures = [
        {
            "id": record.id,
            "split": split,
            "classes": [by_value[value] for value in record.classes],
            **_picture(dataset, folder, record),
        }
        for split, record in shown
    ]
    templates = files("dkd.report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = (templates / "data_view.html.j2").read_text(encoding="utf-8")
    template = environment.from_string(source)
    style = (templates / "data_view.css").read_text(encoding="utf-8")
    return template.render(
        title=f"Labels of {dataset.name}",
        style=Markup(style),  # noqa: S704 -- the project's own file
        root=dataset.root,
        splits=list(dataset.splits),
        images=sum(map(len, dataset.splits.values())),
        shown=len(shown),
        empty=sum(not r.classes for records in dataset.splits.values() for r in records),
        classes=classes,
        steps=_steps(dataset, task) if task else [],
        pictures=pictures,
    )


def overlay(
    labels: npt.NDArray[np.integer[Any]], palette: dict[int, Colour], void: Sequence[int]
) -> bytes:
    """A mask to lay over its image, as a PNG: regions tinted and edged, void striped.

    Args:
        labels: label values, H x W.
        palette: colour by label value.
        void: label values that are void.
    """
    pixels = np.zeros((*labels.shape, 4), np.uint8)
    edge = np.zeros(labels.shape, bool)
    for ahead, behind in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = labels[ahead] != labels[behind]
        edge[ahead] |= differs
        edge[behind] |= differs
    for value in np.unique(labels).tolist():
        if value and value not in void:
            where = labels == value
            pixels[where] = (*palette[value], _TINT)
            # Dark colours are edged in white: photographs are dark in places, too.
            red, green, blue = palette[value]
            dark = 0.3 * red + 0.6 * green + 0.1 * blue < _DARK
            pixels[where & edge] = (*((255, 255, 255) if dark else palette[value]), _EDGE)
    y, x = np.indices(labels.shape)
    unknown = np.isin(labels, list(void))
    stripe = (x + y) % 8 < 4
    pixels[unknown & stripe], pixels[unknown & ~stripe] = _VOID_STRIPE, _VOID_GAP
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


def _picture(dataset: Dataset, folder: Path, record: Record) -> dict[str, str]:
    files_ = contents.read(folder, record)
    photograph, mask = contents.decode(folder, record, *files_)
    photograph.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    labels = np.asarray(mask.resize(photograph.size, Image.Resampling.NEAREST))
    file = io.BytesIO()
    photograph.save(file, "JPEG", quality=82, optimize=True)
    over = overlay(labels, dataset.palette, (*dataset.void_values, dataset.void, WIDE_VOID))
    return {"photograph": _uri(file.getvalue(), "jpeg"), "mask": _uri(over, "png")}


def _classes(dataset: Dataset, task: Task | None) -> list[dict[str, Any]]:
    steps = enumerate(task.steps if task else ())
    step_of = {name: step for step, names in steps for name in names}
    held = {
        split: Counter(value for record in records for value in record.classes)
        for split, records in dataset.splits.items()
    }
    return [
        {
            "value": value,
            "name": name,
            "colour": _css(dataset.palette[value]),
            "step": step_of.get(name),
            "counts": [held[split][value] for split in dataset.splits],
        }
        for value, name in sorted(dataset.classes.items())
    ]


def _steps(dataset: Dataset, task: Task) -> list[dict[str, Any]]:
    rows = []
    for step, names in enumerate(task.steps):
        values = {dataset.values[name] for name in names if name in dataset.values}
        counts = [
            sum(not values.isdisjoint(record.classes) for record in records)
            for records in dataset.splits.values()
        ]
        rows.append({"step": step, "names": ", ".join(names), "counts": counts})
    return rows


def _css(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
