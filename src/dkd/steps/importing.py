"""Released checkpoints as artifacts of ours."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dkd import __version__, storage
from dkd.errors import UserError
from dkd.network import checkpoint, released
from dkd.scenario.schema import Scenario
from dkd.scenario.tasks import Task
from dkd.steps.stages import result_fields
from dkd.storage import artifacts
from dkd.storage.artifacts import Manifest


def publish(
    file: Path,
    classes: Sequence[Sequence[str]],
    fields: Mapping[str, Any],
    scenario: Scenario,
    uri: str,
) -> Manifest:
    """Publishes a released checkpoint under the fields that our own training writes.

    Args:
        file: the ``.pth`` file.
        classes: names by step, in channel order.
        fields: what is known besides: ``dataset``, ``training``, ``method``, ``protocol``.
        scenario: how a step that adds classes to it is to be trained.
        uri: the artifact's place.

    Returns:
        The checkpoint's manifest; how it was trained is not known and not claimed.

    Raises:
        UserError: bad classes, a tensor that does not fit (it is named), or another artifact
            lies at ``uri``.
    """
    task = Task(tuple(tuple(names) for names in classes))
    if empty := [name for name in task.classes if not name]:
        raise UserError(f"--classes: {len(empty)} empty names; write NAME,NAME,...")
    model = released.load(file, task.counts)
    source = {"file": file.name, "sha256": storage.file_sha256(file)}
    description = {
        "identity": {"kind": "imported", "source": source["sha256"]},
        "classes": [list(names) for names in task.steps],
        "step": len(task.steps) - 1,
        "method": "",
        "losses": {},
        "network": released.NETWORK.model_dump(exclude={"weights"}),
        "protocol": "",
        "metrics": {},
        "parent": None,
        "memory": None,
        **fields,
    }
    metadata = {
        "run": "import",
        "source": source,
        "seconds": 0.0,
        "images": 0,
        "curve": [],
        "teacher": None,
        "memory": None,
        "dataset": None,
        "scenario": result_fields(scenario),
        "versions": {"dkd": __version__},
        "device": "",
        "ranks": 0,
    }
    with tempfile.TemporaryDirectory(prefix="dkd-import-") as work:
        parts = checkpoint.write(Path(work), model, description)
        manifest = artifacts.publish(uri, parts, kind="checkpoint", metadata=metadata)
    if manifest.metadata.get("source") != source:
        raise UserError(f"{uri}: another {manifest.kind} lies there; name another place")
    return manifest
