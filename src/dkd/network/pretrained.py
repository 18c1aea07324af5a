"""Initial backbone weights: a file with torchvision's key names, .pth or safetensors.

Besides plain float32 tensors, what makes files small is understood: half-precision tensors, and
int8 ones with a float scale beside them under ``<key>::scale`` (value = integer x scale).
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dkd.errors import UserError
from dkd.network import backbones, torch_files
from dkd.network.backbones import Backbone
from dkd.network.checkpoint import load_strictly, require_fit
from dkd.network.deeplab import SegmentationModel
from dkd.scenario.backbones import output_strides

_SCALE = "::scale"


def convert(path: Path, backbone: str, name: str = "") -> dict[str, Tensor]:
    """A backbone's tensors from a file of weights: float32, each of its shape, none more.

    Tensors of the classifier that the network ends in elsewhere are passed over, and counts of
    batches, which older files lack and nothing uses, may be absent. Anything else that is
    missing, left over, of another shape or not finite is an error.

    Args:
        path: the file.
        backbone: a name that :func:`dkd.network.backbones.get` knows.
        name: what messages call the file; its path by default.

    Raises:
        UserError: the file cannot be read, or a tensor does not fit; it is named.
    """
    found = backbones.get(backbone)
    with torch.device("meta"):
        network = found.build(output_strides(backbone)[0])
    return _fitting(path, network, found, name or str(path), f"no weights of {backbone}: ")


def load(model: SegmentationModel, path: Path) -> None:
    """Loads a file of weights into a model's backbone, in place; see :func:`convert`."""
    backbone = backbones.get(model.network.backbone)
    tensors = _fitting(path, model.backbone, backbone, str(path))
    load_strictly(model.backbone, tensors, source=str(path))


def _fitting(
    path: Path, network: nn.Module, backbone: Backbone, name: str, whose: str = ""
) -> dict[str, Tensor]:
    tensors = _as_float(_stored(path, name), name)
    tensors = {key: t for key, t in tensors.items() if not key.startswith(backbone.classifier)}
    for key in network.state_dict():
        if key.endswith("num_batches_tracked"):
            tensors.setdefault(key, torch.tensor(0))
    require_fit(network, tensors, source=f"{name}: {whose}".removesuffix(": "))
    for key, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise UserError(f"{name}: tensor {key!r} holds NaN or infinity; fetch the file again")
    return tensors


def _stored(path: Path, name: str) -> dict[str, Tensor]:
    """The tensors of a file of either kind: those of torch.save are zips or, older, pickles."""
    try:
        with path.open("rb") as file:
            is_torchs = file.read(2) in (b"PK", b"\x80\x02")
        if not is_torchs:
            return load_file(path)
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{name}: not a readable safetensors file, nor a .pth file: {reason}"
        ) from None
    return torch_files.tensors(torch_files.read(path, name), name)


def _as_float(stored: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    tensors = {}
    for key, tensor in stored.items():
        if key.endswith(_SCALE):
            if key.removesuffix(_SCALE) not in stored:
                raise UserError(f"{name}: tensor {key!r} scales none; write the file again")
        elif tensor.dtype == torch.int8:
            if key + _SCALE not in stored:
                raise UserError(f"{name}: int8 tensor {key!r} has no {key + _SCALE!r}")
            tensors[key] = tensor.float() * stored[key + _SCALE].float()
        else:
            tensors[key] = tensor.float() if tensor.is_floating_point() else tensor
    return tensors
