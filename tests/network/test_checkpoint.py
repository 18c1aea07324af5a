"""Checkpoints as files: what is written is read, and what does not fit is named."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from dkd.errors import UserError
from dkd.network import checkpoint, deeplab
from dkd.network.checkpoint import require_fit
from dkd.scenario.network import Network
from dkd.storage import artifacts

NETWORK = Network(backbone="demo", aspp_channels=8)
DESCRIPTION = {"classes": [["cat"], ["cow", "dog"]], "network": NETWORK.model_dump()}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    model = deeplab.build(NETWORK, [1, 2])
    kept = {"count": torch.tensor([3, 4])}
    parts = checkpoint.write(tmp_path, model, DESCRIPTION, kept)
    assert sorted(parts) == ["checkpoint.json", "model.safetensors", "statistics.safetensors"]
    read = checkpoint.read(tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(read.state_dict()[name], tensor), name
    assert checkpoint.describe(tmp_path)["classes"] == DESCRIPTION["classes"]
    assert torch.equal(checkpoint.read_statistics(tmp_path)["count"], kept["count"])


def test_nothing_kept_is_no_part(tmp_path: Path) -> None:
    model = deeplab.build(NETWORK, [1, 2])
    assert len(checkpoint.write(tmp_path, model, DESCRIPTION)) == 2
    assert checkpoint.read_statistics(tmp_path) == {}


def test_equal_models_are_equal_files(tmp_path: Path) -> None:
    model = deeplab.build(NETWORK, [1, 2])
    for name, description in (("a", DESCRIPTION), ("b", dict(reversed(DESCRIPTION.items())))):
        (tmp_path / name).mkdir()
        checkpoint.write(tmp_path / name, model, description)
    for part in (checkpoint.WEIGHTS, checkpoint.DESCRIPTION):
        assert (tmp_path / "a" / part).read_bytes() == (tmp_path / "b" / part).read_bytes()


def test_other_artifacts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    uri = str(tmp_path / "memory")
    artifacts.publish(uri, {"memory.json": json.dumps({}).encode()}, kind="memory", metadata={})
    with pytest.raises(UserError, match="is a memory, not a checkpoint"):
        checkpoint.fetch(uri)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": torch.zeros(2, 3)}, r"tensor 'bias' is missing \(1 such\)"),
        (
            {"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "more": torch.zeros(1)},
            "tensor 'more' is unexpected",
        ),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, "'weight' is of another shape"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tensors: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(UserError, match=f"^file: .*{message}"):
        require_fit(nn.Linear(3, 2), tensors, source="file")
