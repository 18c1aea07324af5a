"""Other classes for a model without training it: renamed, dropped, merged; as a new checkpoint."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dkd import __version__, storage
from dkd.errors import UserError
from dkd.network import checkpoint, deeplab
from dkd.scenario.tasks import Task
from dkd.steps.step import digest
from dkd.storage import artifacts
from dkd.storage.artifacts import Manifest
from dkd.storage.cache import artifact_cache

Named = tuple[str, tuple[str, ...]]
"""A class, and the classes of before that it consists of."""


def plan(
    classes: Sequence[Sequence[str]],
    rename: Mapping[str, str],
    drop: Sequence[str],
    merge: Mapping[str, Sequence[str]],
) -> list[list[Named]]:
    """The classes after the edits, by step; a step that loses all of its classes is gone.

    Args:
        classes: before, by step.
        rename: new name by name.
        drop: names of classes that are background from now on.
        merge: by new name, the classes that are one from now on; it stands in the place of the
            first of them.

    Raises:
        UserError: an unknown class, one that is named twice, or none that is left.
    """
    named = [*rename, *drop, *(name for names in merge.values() for name in names)]
    known = [name for names in classes for name in names]
    for name in named:
        if name not in known:
            raise UserError(f"class {name!r}: the model knows {', '.join(known)}")
        if named.count(name) > 1:
            raise UserError(f"class {name!r}: is named twice; name each class once")
    for new, names in merge.items():
        if len(names) < 2:
            raise UserError(f"--merge {names[0]}={new}: name two classes or more, or --rename")
    whole = {min(names, key=known.index): (new, tuple(names)) for new, names in merge.items()}
    gone = {*drop, *(name for names in merge.values() for name in names)} - whole.keys()
    after = [
        [whole.get(name, (rename.get(name, name), (name,))) for name in names if name not in gone]
        for names in classes
    ]
    after = [names for names in after if names]
    if not after:
        raise UserError("--drop: no class would be left")
    Task(tuple(tuple(name for name, _ in names) for names in after))  # refuses equal names
    return after


def publish(
    uri: str,
    rename: Mapping[str, str],
    drop: Sequence[str],
    merge: Mapping[str, Sequence[str]],
    output: str = "",
) -> Manifest:
    """Publishes a checkpoint's model with other classes.

    Args:
        uri: the checkpoint's.
        rename: see :func:`plan`.
        drop: likewise.
        merge: likewise.
        output: the new artifact's place; by default beside the old one, by its content.

    Raises:
        UserError: see :func:`plan`; or another artifact lies at ``output``.
    """
    model, description, was = checkpoint.fetch(uri)
    old, folder = artifacts.fetch_cached(uri, artifact_cache())
    after = plan(description["classes"], rename, drop, merge)
    if (drop or merge) and description.get(checkpoint.OWN_MAPS):
        raise UserError(
            f"{uri}: each of its heads has a background of its own, which no class can leave; "
            "classes of such a model can be renamed alone"
        )
    channels = _channels(model, [name for names in description["classes"] for name in names])
    parts_of = [[[c for name in of for c in channels[name]] for _, of in step] for step in after]
    classes = [[name for name, _ in step] for step in after]
    edits = {
        "rename": dict(rename),
        "drop": sorted(drop),
        "merge": {new: list(of) for new, of in merge.items()},
    }
    identity = {"kind": "edited", "parent": was, **edits}
    description = {
        **{name: value for name, value in description.items() if name != checkpoint.CHANNELS},
        "identity": identity,
        "classes": classes,
        "step": len(classes) - 1,
        "metrics": {},
        "parent": was,
        "memory": None,
    }
    metadata = {
        **old.metadata,
        "run": "classes",
        "teacher": {"uri": uri, "digest": was},
        "memory": None,
        "edits": edits,
        "curve": [],
        "seconds": 0.0,
        "scenario": _with_task(old.metadata.get("scenario"), classes),
        "versions": {"dkd": __version__},
    }
    # Rows of statistics are those of channels, which a name is not among.
    statistics = {} if drop or merge else checkpoint.read_statistics(folder)
    target = output or _beside(uri, digest(identity)[:32])
    with tempfile.TemporaryDirectory(prefix="dkd-classes-") as work:
        edited = deeplab.rearranged(model, parts_of)
        parts = checkpoint.write(Path(work), edited, description, statistics)
        ours = {name: storage.file_sha256(path) for name, path in parts.items()}
        manifest = artifacts.publish(target, parts, kind="checkpoint", metadata=metadata)
    if {name: part.sha256 for name, part in manifest.parts.items()} != ours:
        raise UserError(f"{target}: another {manifest.kind} is already there; name another place")
    return manifest


def _channels(model: deeplab.SegmentationModel, names: Sequence[str]) -> dict[str, list[int]]:
    """Channels by class; a class that was merged before has several."""
    channels: dict[str, list[int]] = {}
    for channel, number in enumerate(model.reading.classes or range(1 + model.classes)):
        if number:
            channels.setdefault(names[number - 1], []).append(channel)
    return channels


def _beside(uri: str, name: str) -> str:
    above, slash, _ = uri.rstrip("/").rpartition("/")
    return storage.join(above or slash or ".", name)


def _with_task(scenario: Mapping[str, Any] | None, classes: list[list[str]]) -> Any:
    return None if scenario is None else {**scenario, "task": classes}
