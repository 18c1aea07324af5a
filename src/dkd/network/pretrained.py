"""Initial backbone weights: a safetensors file with torchvision's key names.

Besides plain float32 files, what makes files small is understood: half-precision tensors, and
int8 ones with a float scale beside them under ``<key>::scale`` (value = integer x scale).
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dkd import storage
from dkd.errors import UserError
from dkd.network.checkpoint import load_strictly
from dkd.network.deeplab import SegmentationModel

_SCALE = "::scale"
# What torchvision's ResNets and MobileNetV2 end in (see the latter in dkd.network.backbones).
_CLASSIFIER = ("fc.", "classifier.", "features.18.")


def fetch(uri: str, digest: str, cache: Path) -> Path:
    """The file of a network's initial weights, on this machine.

    Args:
        uri: where it is (:attr:`dkd.scenario.schema.Network.weights`).
        digest: its sha256; may be empty for a local file.
        cache: folder for downloads, which are kept by digest.

    Raises:
        UserError: there is no such file, its content has another digest, or a URI has none.
    """
    if storage.is_local(uri):
        path = storage.local_path(uri)
        if digest and path.is_file() and storage.file_sha256(path) != digest:
            raise UserError(f"{uri}: its sha256 is not network.weights_sha256; fix one of them")
        return path
    if not digest:
        raise UserError(f"network.weights_sha256: give the digest of {uri}, it is downloaded")
    path = cache / f"weights-{digest}.safetensors"
    if not path.is_file():
        storage.download(uri, path, sha256=digest)
    return path


def load(model: SegmentationModel, path: Path) -> None:
    """Loads a file of initial weights into a model's backbone, strictly and in place.

    Tensors of the classifier that torchvision's network ends in are passed over, and counts of
    batches, which older files lack and nothing uses, may be absent. Anything else that is
    missing, left over or of another shape is an error.

    Raises:
        UserError: the file cannot be read, or a tensor does not fit; it is named.
    """
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable safetensors file: {error}") from None
    tensors = _as_float(stored, path)
    tensors = {key: t for key, t in tensors.items() if not key.startswith(_CLASSIFIER)}
    for key in model.backbone.state_dict():
        if key.endswith("num_batches_tracked"):
            tensors.setdefault(key, torch.tensor(0))
    load_strictly(model.backbone, tensors, source=str(path))


def _as_float(stored: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    tensors = {}
    for key, tensor in stored.items():
        if key.endswith(_SCALE):
            if key.removesuffix(_SCALE) not in stored:
                raise UserError(f"{path}: tensor {key!r} scales none; write the file again")
        elif tensor.dtype == torch.int8:
            if key + _SCALE not in stored:
                raise UserError(f"{path}: int8 tensor {key!r} has no {key + _SCALE!r}")
            tensors[key] = tensor.float() * stored[key + _SCALE].float()
        else:
            tensors[key] = tensor.float() if tensor.is_floating_point() else tensor
    return tensors
