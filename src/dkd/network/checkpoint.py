"""Checkpoints: safetensors and JSON, published as one artifact.

``model.safetensors`` holds every parameter and buffer under the released program's names;
``checkpoint.json`` says what the model knows and where it is from; ``statistics.safetensors``,
where there is one, what its method keeps for the next step. Nothing is pickled.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dkd.errors import UserError
from dkd.network.deeplab import SegmentationModel, merged
from dkd.scenario.network import Network
from dkd.storage import artifacts
from dkd.storage.cache import artifact_cache

WEIGHTS, DESCRIPTION = "model.safetensors", "checkpoint.json"
STATISTICS = "statistics.safetensors"
BACKGROUND_CHANNEL = "background_channel"
"""In a description: that the model's head 0 is the background's."""
OWN_MAPS = "own_maps"
"""In a description: that each of the model's heads reads a map of its own."""
CHANNELS = "channels"
"""In a description: how many channels a class has, where that is not 1."""


def write(
    folder: Path,
    model: SegmentationModel,
    description: Mapping[str, Any],
    statistics: Mapping[str, Tensor] | None = None,
) -> dict[str, Path]:
    """Writes a checkpoint's parts.

    Args:
        folder: where to.
        model: the trained model.
        description: ``checkpoint.json``: classes by step, data set, method, hyper-parameters,
            metrics, the parent's digest. Nothing in it may differ between two equal trainings.
        statistics: what the method keeps beside the model; no part where that is nothing.

    Returns:
        The parts by name, for publishing.
    """
    save_tensors(folder / WEIGHTS, model.state_dict())
    if model.background_channel:
        description = {**description, BACKGROUND_CHANNEL: True}
    if model.own_maps:
        description = {**description, OWN_MAPS: True}
    if model.merged:
        classes = [name for step in description["classes"] for name in step]
        named = zip(classes, model.widths, strict=True)
        channels = {name: width for name, width in named if width > 1}
        description = {**description, CHANNELS: channels}
    text = json.dumps(description, sort_keys=True, indent=1)
    (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
    if statistics:
        save_tensors(folder / STATISTICS, statistics)
    names = (WEIGHTS, DESCRIPTION, *([STATISTICS] if statistics else []))
    return {name: folder / name for name in names}


def describe(folder: Path) -> dict[str, Any]:
    """``checkpoint.json`` of a downloaded checkpoint."""
    description: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    return description


def read(folder: Path) -> SegmentationModel:
    """The model of a downloaded checkpoint, on the CPU.

    Raises:
        UserError: a missing, extra or misshaped tensor; the first is named.
    """
    description = describe(folder)
    # Older ones say besides what was started from.
    network = Network.of_structure(description["network"])
    channels = description.get(CHANNELS, {})
    widths = [[channels.get(name, 1) for name in names] for names in description["classes"]]
    counts = [sum(each) for each in widths]
    model = SegmentationModel(network, counts, bool(description.get(OWN_MAPS)))
    model.merged = merged([width for each in widths for width in each])
    model.background_channel = bool(description.get(BACKGROUND_CHANNEL))
    load_strictly(model, load_file(folder / WEIGHTS), source=str(folder / WEIGHTS))
    return model


def read_statistics(folder: Path) -> dict[str, Tensor]:
    """What the method of a downloaded checkpoint kept for the next step, on the CPU."""
    path = folder / STATISTICS
    return load_file(path) if path.exists() else {}


class Fetched(NamedTuple):
    """A published checkpoint: its model on the CPU, its description, its digest."""

    model: SegmentationModel
    description: dict[str, Any]
    digest: str


def fetch(uri: str) -> Fetched:
    """A published checkpoint, downloaded and verified once per machine.

    Raises:
        UserError: nothing is there, it is no checkpoint, or it is damaged.
    """
    manifest, folder = artifacts.fetch_cached(uri, artifact_cache())
    if manifest.kind != "checkpoint":
        raise UserError(f"{uri}: is {manifest.called}, not a checkpoint")
    return Fetched(read(folder), describe(folder), manifest.digest)


def load_strictly(model: torch.nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Loads tensors by name; every one must be there, none more, each of the model's shape."""
    require_fit(model, tensors, source)
    model.load_state_dict(dict(tensors))


def require_fit(model: torch.nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Checks that tensors are a model's by name and shape.

    Raises:
        UserError: one is missing, left over or of another shape; it is named.
    """
    expected = model.state_dict()
    for kind, keys in (
        ("missing", expected.keys() - tensors.keys()),
        ("unexpected", tensors.keys() - expected.keys()),
        (
            "of another shape",
            [k for k in expected.keys() & tensors.keys() if expected[k].shape != tensors[k].shape],
        ),
    ):
        if keys:
            raise UserError(f"{source}: tensor {min(keys)!r} is {kind} ({len(keys)} such)")


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors of any device and layout as safetensors."""
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path)
