"""Checkpoints of other programs as artifacts of ours."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dkd import __version__, storage
from dkd.errors import UserError
from dkd.network import checkpoint
from dkd.network.foreign import Foreign
from dkd.scenario.schema import Scenario
from dkd.scenario.tasks import Task
from dkd.steps.stages import as_today, result_fields
from dkd.steps.step import differences
from dkd.storage import artifacts
from dkd.storage.artifacts import Manifest


def publish(
    found: Foreign,
    classes: Sequence[Sequence[str]],
    fields: Mapping[str, Any],
    scenario: Scenario,
    uri: str,
) -> Manifest:
    """Publishes a checkpoint of another program under the fields that our own training writes.

    Args:
        found: what was recognised, and converted where it was a softmax.
        classes: names by step, in channel order.
        fields: what is known besides: ``dataset``, ``training``, ``method``, ``protocol``.
        scenario: how a step that adds classes to it is to be trained, with the model's network.
        uri: the artifact's place.

    Returns:
        The checkpoint's manifest; how it was trained is not known and not claimed.

    Raises:
        UserError: bad classes, a tensor that does not fit (it is named), or another artifact
            lies at ``uri``.
    """
    task = Task(tuple(tuple(names) for names in classes))
    model = found.model(task.counts, scenario.network)
    source = {"file": found.path.name, "sha256": storage.file_sha256(found.file)}
    description = {
        "identity": {"kind": "imported", "source": source["sha256"]},
        "classes": [list(names) for names in task.steps],
        "step": len(task.steps) - 1,
        "method": "",
        "losses": {},
        "network": model.network.structure(),
        "protocol": "",
        "metrics": {},
        "parent": None,
        "memory": None,
        **fields,
    }
    says = result_fields(scenario)
    metadata = {
        "run": "import",
        "source": source | {"architecture": found.architecture.name},
        "seconds": 0.0,
        "images": 0,
        "curve": [],
        "teacher": None,
        "memory": None,
        "dataset": None,
        "scenario": says,
        "versions": {"dkd": __version__},
        "device": "",
        "ranks": 0,
    }
    with tempfile.TemporaryDirectory(prefix="dkd-import-") as work:
        parts = checkpoint.write(Path(work), model, description)
        ours = {name: storage.file_sha256(path) for name, path in parts.items()}
        manifest = artifacts.publish(uri, parts, kind="checkpoint", metadata=metadata)
    there = {name: part.sha256 for name, part in manifest.parts.items()}
    known = as_today(manifest.metadata.get("scenario") or {})
    if there != ours or differences(known, says):
        raise UserError(f"{uri}: another {manifest.kind} is already there; name another place")
    return manifest
