"""What differs between two versions of a model."""

from collections.abc import Iterator, Mapping
from typing import Any

from dkd.models.version import ModelVersion
from dkd.report.changes import points
from dkd.scenario.names import BACKGROUND_NAME

_MEAN = "mIoU of all classes"
_Row = tuple[str, str, str, str]
"""What it is, in the one version, in the other, the difference."""


def figures(one: ModelVersion, other: ModelVersion) -> list[_Row]:
    """IoU of every class of either, and the means, in percent; below the columns' names.

    The two may have been scored on different test images: :func:`facts` says so.
    """
    rows: list[_Row] = [("class", f"version {one.version}", f"version {other.version}", "points")]
    before, after = _iou(one), _iou(other)
    names = [name for name in {**before, **after} if name != _MEAN]
    rows += [
        (name, _cell(before, name), _cell(after, name), _change(before.get(name), after.get(name)))
        for name in (*names, _MEAN)
    ]
    return rows


def facts(one: ModelVersion, other: ModelVersion) -> list[tuple[str, str, str]]:
    """Everything else that differs: what it is, in the one, in the other."""
    return [(name, a, b) for name, a, b in _pairs(_facts(one), _facts(other)) if a != b]


def _pairs(a: Mapping[str, str], b: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for name in {**a, **b}:
        yield name, a.get(name, "–"), b.get(name, "–")


def _facts(version: ModelVersion) -> dict[str, str]:
    def digest(reference: Any) -> str:
        return reference.digest[:16] if reference else "none"

    return {
        "classes": str(len(version.classes)),
        "steps": str(len(version.task)),
        "gate": version.verdict,
        "checkpoint": digest(version.checkpoint),
        "memory": digest(version.memory),
        "data set": f"{version.dataset.name} {digest(version.dataset)}",
        "training images of the last step": str(version.images),
        "run": version.run,
        "made from version": str(version.extends or "–"),
        "scenario": version.scenario,
        "method": version.method,
        "seed": str(version.seed),
        **dict(version.software),
    }


def _iou(version: ModelVersion) -> dict[str, float | None]:
    scores = version.scores
    names = (BACKGROUND_NAME, *version.classes)
    found: dict[str, float | None] = dict(zip(names, scores.iou, strict=True))
    return found | {_MEAN: scores.miou_all}


def _cell(figures: Mapping[str, float | None], name: str) -> str:
    if name not in figures:
        return ""
    value = figures[name]
    return "–" if value is None else f"{value:.1f}"


def _change(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return ""
    return points(after - before)
