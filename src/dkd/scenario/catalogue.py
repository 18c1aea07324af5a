"""The scenarios that come with the package: the demonstration and the published tables.

Published figures of DKD are those of the paper's tables (arXiv 2210.05941), hIoU and mIoU_all;
those of the other methods, mIoU_all alone, are from the tables that their scenarios name.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from typing import Any

from dkd.errors import UserError
from dkd.scenario import strict_yaml
from dkd.scenario.class_names import ADE20K_CLASSES, VOC_CLASSES
from dkd.scenario.schema import Scenario, parse


@dataclass(frozen=True)
class PublishedFigure:
    """A published result, in percent; what was not published is None."""

    hiou: float | None
    miou_all: float


def _steps(first: int, later: int, classes: int) -> list[list[int]]:
    """Classes in index order: ``first`` of them, then ``later`` at a time."""
    bounds = [1, *range(first + 1, classes + 1, later), classes + 1]
    return [list(range(a, b)) for a, b in pairwise(bounds)]


def _star(pos_weight: float) -> dict[str, Any]:
    weights = {f"training.pos_weight.{when}": pos_weight for when in ("first", "later")}
    return {"method": "star", "training.batch_size": 24, **weights}


def _softmax(method: str, epochs: int, **options: float) -> dict[str, Any]:
    return {
        "method": method,
        **{f"method_options.{name}": value for name, value in options.items()},
        "training.batch_size": 24,
        "training.lr": {"first": 1e-2, "later": 1e-3},
        "training.schedule": "poly",
        "training.epochs": {"first": epochs, "later": epochs},
    }


def _barm(epochs: tuple[int, int], batch_size: int, new_head: float) -> dict[str, Any]:
    return {
        "method": "barm",
        "training.batch_size": batch_size,
        "training.crop": 513,
        "training.lr": {"first": 1e-3, "later": 1e-4},
        "training.rates": {"new_head": new_head},
        "training.schedule": "poly",
        "training.epochs": {"first": epochs[0], "later": epochs[1]},
    }


_VOC = {
    "data": {"format": "voc"},
    "method": "dkd",
    "protocol": "paper",
    "network": {"backbone": "resnet101", "weights": "imagenet"},
    "training": {
        "epochs": {"first": 60, "later": 60},
        "batch_size": 32,
        "crop": 512,
        "lr": {"first": 1e-3, "later": 1e-4},
        "schedule": "poly",
        "pos_weight": {"first": 2, "later": 1},
    },
    "variants": {
        "finetune": {"method": "finetune"},
        "DKD": {},
        "DKD-M": {"memory_size": 100},
        "STAR": _star(4),
        "STAR-M": {**_star(4), "memory_size": 50},
        "MiB": _softmax("mib", 30),
        "PLOP": _softmax("plop", 30),
        "BARM": _barm((50, 20), 16, 10),
        "joint": {"method": "joint"},
    },
}
_ADE = {
    "data": {"format": "ade20k"},
    "method": "dkd",
    "protocol": "paper",
    "network": {"backbone": "resnet101", "weights": "imagenet"},
    "training": {
        "epochs": {"first": 100, "later": 100},
        "batch_size": 24,
        "crop": 512,
        "lr": {"first": 2.5e-3, "later": 2.5e-4},
        "schedule": "warmup_poly",
        "pos_weight": {"first": 35, "later": 35},
    },
    "variants": {
        "finetune": {"method": "finetune"},
        "DKD": {},
        "DKD-M": {"memory_size": 300},
        "STAR": _star(30),
        "MiB": _softmax("mib", 60),
        "PLOP": _softmax("plop", 60, pod=1e-3, pod_logits=1e-5),
        "BARM": _barm((60, 100), 8, 100),
        "joint": {"method": "joint"},
    },
}

_TASKS: dict[str, tuple[dict[str, Any], list[list[int]], tuple[str, ...]]] = {
    f"voc-{first}-{later}": (_VOC, _steps(first, later, 20), ("overlap", "disjoint", "partitioned"))
    for first, later in ((19, 1), (15, 5), (15, 1), (10, 1), (5, 3))
} | {
    f"ade-{first}-{later}": (_ADE, _steps(first, later, 150), ("overlap",))
    for first, later in ((100, 50), (100, 10), (100, 5), (50, 50))
}


def _suffix(setting: str) -> str:
    return "" if setting == "overlap" else f"-{setting}"


PUBLISHED: dict[tuple[str, str], PublishedFigure] = {
    (f"{task}{setting}", variant): PublishedFigure(*figures)
    for setting, variant, table in (
        (
            "",
            "DKD",
            {
                "voc-19-1": (56.95, 76.13),
                "voc-15-5": (67.17, 73.95),
                "voc-15-1": (57.46, 70.50),
                "voc-10-1": (57.21, 60.43),
                "voc-5-3": (61.32, 58.98),
                "ade-100-50": (29.42, 35.55),
                "ade-100-10": (26.79, 34.53),
                "ade-50-50": (34.77, 34.39),
            },
        ),
        (
            "",
            "DKD-M",
            {
                "voc-19-1": (68.14, 77.04),
                "voc-15-5": (68.96, 74.84),
                "voc-15-1": (64.09, 72.95),
                "voc-10-1": (64.89, 66.20),
                "voc-5-3": (65.02, 63.32),
                "ade-100-50": (29.45, 35.58),
                "ade-100-10": (27.44, 34.83),
                "ade-50-50": (34.78, 34.39),
            },
        ),
        (
            "-disjoint",
            "DKD",
            {"voc-19-1": (57.98, 75.90), "voc-15-5": (64.35, 72.21), "voc-15-1": (54.21, 68.48)},
        ),
        (
            "-disjoint",
            "DKD-M",
            {"voc-19-1": (67.12, 76.84), "voc-15-5": (65.04, 72.53), "voc-15-1": (60.32, 70.78)},
        ),
    )
    for task, figures in table.items()
} | {
    (f"{task}{setting}", variant): PublishedFigure(None, figure)
    for setting, variant, row in (
        ("", "STAR", (76.61, 74.86, 72.90, 64.86, 64.54, 36.39, 34.91, None, 34.44)),
        ("", "STAR-M", (77.02, 75.80, 74.03, 66.60, 65.65)),
        ("", "MiB", (69.15, 70.08, 29.29, 12.65, 46.71, 32.79, 29.24, 25.96, 29.31)),
        ("", "PLOP", (73.54, 70.09, 54.64, 30.45, 18.68, 32.94, 31.59, 28.75, 30.40)),
        ("", "BARM", (76.4, None, 70.0, 62.1, 61.1, 35.7, 35.2, 34.1, 33.7)),
        ("-disjoint", "STAR", (76.38, 73.48, 70.77)),
        ("-disjoint", "STAR-M", (76.73, 73.79, 71.18)),
    )
    for task, figure in zip(_TASKS, row, strict=False)
    if figure is not None
}
"""Published figures by scenario name and variant."""


def documents() -> dict[str, dict[str, Any]]:
    """Every scenario by name, as the document that a YAML file would hold."""
    demo = strict_yaml.load((files("dkd.scenario") / "demo.yaml").read_bytes(), "demo.yaml")
    found = {demo["name"]: demo}
    for task, (base, steps, settings) in _TASKS.items():
        for setting in settings:
            name = f"{task}{_suffix(setting)}"
            found[name] = {"name": name, **base, "task": steps, "setting": setting}
    return found


def published() -> tuple[str, ...]:
    """Names of the scenarios of the published tables: all but the demonstration."""
    return tuple(
        f"{task}{_suffix(s)}" for task, (_, _, settings) in _TASKS.items() for s in settings
    )


def label_names(scenario: Scenario) -> dict[int | str, str]:
    """Class names by label value of the data set that a scenario is made for, if it is known."""
    family = scenario.data.format
    if family == "packed" and scenario.name in published():
        family = "voc" if scenario.name.startswith("voc-") else "ade20k"
    known: dict[int | str, str] = {}
    known.update({"voc": VOC_CLASSES, "ade20k": ADE20K_CLASSES}.get(family, {}).items())
    return known


@dataclass(frozen=True)
class ImageCounts:
    """Images by step of a published scenario.

    Those of VOC follow from the classes in its masks; those of ADE20K are the released lists',
    but for step 0 of 100-10 and 100-5: there the definition gives 18 images more.
    """

    train: tuple[int, ...]
    test: tuple[int, ...]


def counts(name: str) -> ImageCounts | None:
    """Images by step of the published data set; None for other scenarios."""
    known = json.loads(
        (files("dkd.scenario") / "published_counts.json").read_text(encoding="utf-8")
    )
    if name not in known:
        return None
    return ImageCounts(tuple(known[name]["train"]), tuple(known[name]["test"]))


def scenario(name: str, overrides: Mapping[str, Any]) -> Scenario:
    """A scenario of the catalogue.

    Args:
        name: its name.
        overrides: values by dotted field, e.g. where the data set is.

    Raises:
        UserError: no such scenario, no data set given, or a bad value.
    """
    known = documents()
    if name not in known:
        raise UserError(
            f"scenario {name!r}: neither a file nor one of {', '.join(known)}; "
            "`dkd scenarios` describes them"
        )
    document = known[name]
    root = overrides.get("data.root", "")
    data = {**document["data"], **({"root": root} if root else {})}
    return parse({**document, "data": data}, source=name).override(overrides)
