"""Data sets that are made rather than fetched: scenes drawn into the ``folder`` layout, once.

What is drawn is the business of :mod:`dkd.data.pictograms`, which are the demonstration's, and
:mod:`dkd.data.digits`.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dkd.data import digits, pictograms
from dkd.data.scenes import Drawing
from dkd.errors import UserError
from dkd.scenario.data import MADE, Data
from dkd.storage.files import scratch

_DRAWINGS: Mapping[str, Drawing] = dict(zip(MADE, (digits, pictograms), strict=True))


def folder(parent: Path, data: Data) -> Path:
    """Where below ``parent`` the data of these settings belong."""
    text = json.dumps([_DRAWINGS[data.format].VERSION, _described(data)], sort_keys=True)
    return parent / f"{data.format}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def make(folder: Path, data: Data) -> None:
    """Writes the scenes to a folder in the ``folder`` layout; a folder that has them is kept.

    Equal settings give equal pixels. The folder appears whole or not at all.

    Args:
        folder: does not exist, is empty, or was made with the same settings.
        data: of a format in :data:`dkd.scenario.data.MADE`.

    Raises:
        UserError: a package is missing, or the folder holds something else.
    """
    name, drawing = f"{data.format}.json", _DRAWINGS[data.format]
    stamp = json.dumps({"version": drawing.VERSION, **_described(data)}, sort_keys=True)
    marker = folder / name
    if marker.is_file() and marker.read_text(encoding="utf-8") == stamp:
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder}: holds something else; name a folder that does not exist yet")
    try:
        with scratch(folder.parent, f".{data.format}-") as work:
            _write(work, drawing, data.made)
            (work / name).write_text(stamp, encoding="utf-8")
            try:
                work.rename(folder)
            except OSError:
                # Somebody else made it meanwhile: theirs is the same.
                if not (marker.is_file() and marker.read_text(encoding="utf-8") == stamp):
                    raise
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from None


def _described(data: Data) -> dict[str, Any]:
    return data.made.model_dump(exclude_none=True)


def _write(folder: Path, drawing: Drawing, settings: Data.Made) -> None:
    """Writes images, masks and class names."""
    for split, count in (("train", settings.train), ("validation", settings.validation)):
        draw = drawing.scenes(settings, split)
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for number in range(count):
            seed = np.random.SeedSequence([settings.seed, int(split == "validation"), number])
            image, mask = draw(np.random.default_rng(seed))
            name = f"{split}-{number:05}.png"
            Image.fromarray(image).save(folder / "images" / split / name, compress_level=1)
            Image.fromarray(mask).save(folder / "masks" / split / name, compress_level=1)
    lines = [f"{value}: {name}" for value, name in drawing.classes(settings).items()]
    (folder / "classes.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
