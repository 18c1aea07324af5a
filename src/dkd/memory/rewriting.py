"""What shows images, written anew without some of them: memories, evaluations, results."""

import io
import json
import tarfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from dkd.report.model import RunResult
from dkd.steps.step import BY_IMAGE, EVALUATION, MEMORY
from dkd.storage.artifacts import Manifest

_PICTURE_FILES = ("image.jpg", "truth.png", "prediction.png")


def memory_without(
    folder: Path, manifest: Manifest, rows: Collection[int], work: Path
) -> dict[str, Path | bytes]:
    """A memory's parts without some rows of its list.

    Args:
        folder: its parts, downloaded.
        manifest: that lists them.
        rows: to leave out.
        work: folder for the parts that are written anew.
    """
    document: dict[str, Any] = json.loads((folder / MEMORY).read_text(encoding="utf-8"))
    exemplars = document["exemplars"]
    kept = [i for i in range(len(exemplars)) if i not in rows]
    gone = {exemplars[i][file] for i in rows for file in ("image", "mask")}
    document["exemplars"] = [exemplars[i] for i in kept]
    parts: dict[str, Path | bytes] = {MEMORY: json.dumps(document, indent=1).encode()}
    for new, old in enumerate(kept):
        if f"thumbnails/{old}.jpg" in manifest.parts:
            parts[f"thumbnails/{new}.jpg"] = folder / f"thumbnails/{old}.jpg"
    for name in manifest.parts:
        if name.endswith(".tar"):
            parts[name] = _shard_without(folder / name, gone, work / name)
    return parts


def evaluation_without(folder: Path, rows: Collection[int]) -> dict[str, Path | bytes]:
    """An evaluation's parts without some of its pictures; its figures stay as they are.

    Args:
        folder: its parts, downloaded.
        rows: places of the pictures in its list.
    """
    document: dict[str, Any] = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
    kept = [i for i in range(len(document["pictures"])) if i not in rows]
    document["pictures"] = [document["pictures"][i] for i in kept]
    parts: dict[str, Path | bytes] = {EVALUATION: json.dumps(document).encode()}
    if (folder / BY_IMAGE).exists():
        parts[BY_IMAGE] = folder / BY_IMAGE
    for new, old in enumerate(kept):
        for name in _PICTURE_FILES:
            parts[f"pictures/{new}.{name}"] = folder / f"pictures/{old}.{name}"
    return parts


def shown(result: RunResult) -> frozenset[str]:
    """Ids of every image that a run's result shows."""
    exemplars = (exemplar.id for step in result.steps for exemplar in step.exemplars)
    predictions = (prediction.id for step in result.steps for prediction in step.predictions)
    return frozenset((*exemplars, *predictions, *(each.id for each in result.references)))


def result_without(result: RunResult, images: Collection[str]) -> RunResult:
    """A run's result that shows none of these images."""

    def others(items: Iterable[Any]) -> tuple[Any, ...]:
        return tuple(item for item in items if item.id not in images)

    steps = tuple(
        step.model_copy(
            update={
                "exemplars": others(step.exemplars),
                "predictions": others(step.predictions),
            }
        )
        for step in result.steps
    )
    return result.model_copy(update={"steps": steps, "references": others(result.references)})


def _shard_without(shard: Path, gone: Collection[str], target: Path) -> Path:
    with tarfile.open(shard) as source, tarfile.open(target, "w") as kept:
        for member in source:
            content = source.extractfile(member)
            if member.name not in gone and content is not None:
                kept.addfile(member, io.BytesIO(content.read()))
    return target
