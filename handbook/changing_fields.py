"""Which fields of a scenario change a result, asked of the keys themselves.

A result is found by its key, and a key holds all that changes it (:mod:`dkd.steps.step`). So each
field is given another value, and the keys of two steps are compared with those from before.
"""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from dkd.data.index import Dataset, Record
from dkd.scenario.protocols import PROTOCOLS
from dkd.scenario.schema import Scenario, parse
from dkd.steps.step import Step, StepSpec
from dkd.storage.artifacts import Manifest

BASE = {
    "name": "keys",
    "data": {"format": "folder", "root": "data"},
    "task": [["cat"], ["dog"]],
    "method": "dkd",
    "memory_size": 4,
    "training": {
        "epochs": {"first": 2, "later": 2},
        "batch_size": 4,
        "lr": {"first": 0.01, "later": 0.001},
    },
}

OTHER: dict[str, Any] = {
    "name": "other",
    "label": "other",
    "description": "other",
    "licence": "MIT",
    "task": [["dog"], ["cat"]],
    "setting": "disjoint",
    "method": "finetune",
    "losses": {"kd": 1},
    "method_options": {"fuse": True},
    "protocol": next(name for name in PROTOCOLS if name != "corrected"),
    "variants": {"other": {"seed": 2}},
    "network.backbone": "resnet50",
    "network.output_stride": 8,
    "network.aspp_dilations": [1, 2, 3],
    "network.aspp_dropout": 0.5,
    "network.mean": [0.5, 0.5, 0.5],
    "network.std": [0.5, 0.5, 0.5],
    "training.rates": {"new_head": 30},
    "training.pos_weight.later": 2,
    "training.memory_share": 0.5,
    "training.schedule": "warmup_poly",
    "training.precision": "fp32",
    "gate.on_failure": "stop",
    "launch.backend": "trainjob",
    "launch.image": "registry/image@sha256:1",
    "launch.gpu_resource": "amd.com/gpu",
    "launch.shared_memory": "4Gi",
    "launch.cpu": "4",
    "launch.memory": "4Gi",
    "launch.cpu_limit": "4",
    "launch.scratch": "4Gi",
    "launch.extended_resources": {"rdma/hca": 1},
    "launch.environment": {"NCCL_IB_HCA": "mlx5"},
    "launch.volumes": [{"path": "/data", "claim": "images"}],
    "launch.node_affinity": [{"key": "zone", "values": ["a"]}],
    "launch.node_selector": {"pool": "gpu"},
    "launch.tolerations": [{"key": "gpu", "operator": "Exists"}],
}
"""Another value of fields for which none follows from the present one."""

BY_CONTENT = {
    *("data.format", "data.root", "data.train", "data.validation", "data.unlabelled"),
    *(
        f"data.{made}.{name}"
        for made in ("digits", "pictograms")
        for name in ("train", "validation", "size", "seed")
    ),
    "data.pictograms.new_class",
    "network.weights",
}
"""Fields that name files. A key holds the digest of what lies there."""


@cache
def changing_fields() -> frozenset[str]:
    """Dotted names of the fields that change a model, an evaluation or an exemplar memory."""
    before = keys(BASE_SCENARIO)
    changed = {
        path
        for path, value in leaves(BASE_SCENARIO.model_dump())
        if path not in BY_CONTENT
        and keys(BASE_SCENARIO.override({path: another(path, value)})) != before
    }
    return frozenset(changed | BY_CONTENT)


def leaves(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted name."""
    for name, value in document.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def another(path: str, value: Any) -> Any:
    """Another value that the field may have."""
    if path in OTHER:
        return OTHER[path]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2
    if isinstance(value, str):
        return "other"
    return 1 if path.startswith("gate.") or path.endswith("_batch") else True


def keys(scenario: Scenario) -> str:
    """What the results of two steps are kept under."""
    records = tuple(
        Record(str(n), f"{n}.jpg", f"{n}.png", 64, 64, classes, f"{n:064}")
        for n, classes in enumerate([(1,), (2,), (1, 2)])
    )
    splits = {"train": records, "validation": records}
    dataset = Dataset("data", "folder", "data", {1: "cat", 2: "dog"}, {}, False, splits)
    made = Manifest("s3://bucket/made", "checkpoint", {})
    identities = []
    for step in range(len(scenario.task)):
        task = tuple(tuple(map(str, classes)) for classes in scenario.task)
        spec = StepSpec(scenario=scenario, task=task, step=step, dataset="", root="s3://bucket")
        opened = Step(spec, dataset, made if step else None, made if step else None)
        identities += [
            opened.checkpoint_identity,
            opened.evaluation_identity(made),
            opened.memory_identity(made),
        ]
    return json.dumps(identities, sort_keys=True)


BASE_SCENARIO = parse(BASE, source="")
