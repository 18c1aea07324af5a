"""Checkpoints released by the authors of DKD, as they were saved with torch.

A zip-format ``.pth`` that holds ``{"state_dict": ...}`` or the state itself, the names with or
without the prefix ``module.`` that a DDP wrapper leaves. Read with ``weights_only=True``: no
code in the file is ever run.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from dkd.errors import UserError
from dkd.network import torch_files
from dkd.network.checkpoint import load_strictly
from dkd.network.deeplab import SegmentationModel, build
from dkd.scenario.schema import Network

NETWORK = Network(backbone="resnet101")


def load(path: Path, counts: Sequence[int]) -> SegmentationModel:
    """The model of a released checkpoint: ResNet-101, 256 ASPP channels.

    Args:
        path: the ``.pth`` file.
        counts: number of classes by step, up to the checkpoint's step.

    Raises:
        UserError: the file cannot be read; or a tensor is missing, left over, or has another
            shape than in a model of these classes: it is named.
    """
    state = read_state(path)
    with torch.device("meta"):
        model = build(NETWORK, counts)
    model = model.to_empty(device="cpu")
    load_strictly(model, state, source=str(path))
    return model


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.pth`` file by name, without DDP's prefix.

    Raises:
        UserError: the file is missing, is not in the zip format, or holds something else than
            tensors by name.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; name a released .pth checkpoint")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path}: not a zip-format .pth file; save it anew with torch.save")
    content = torch_files.read(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    state = torch_files.tensors(content, str(path))
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}
