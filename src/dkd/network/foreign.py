"""Models that other programs trained: their files read, recognised and turned into ours.

Recognised are checkpoints released by the authors of DKD, torchvision's DeepLabV3 and that of
segmentation_models_pytorch. Files are safetensors or zip-format ``.pth`` files that hold tensors by
name, by themselves or under ``state_dict``, ``model`` or ``model_state_dict``; no code in them is
ever run.

A softmax over background and K classes becomes sigmoids exactly. Its likeliest channel is class k
if ``w_k x + b_k`` is the largest; so it is if ``(w_k - w_0) x + (b_k - b_0)`` is the largest of the
classes' and above 0, where the sigmoid is above one half.
"""

import json
import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dkd.errors import UserError, one_line
from dkd.network import torch_files
from dkd.network.checkpoint import load_strictly
from dkd.network.deeplab import SegmentationModel
from dkd.scenario.network import Network
from dkd.scenario.strict_model import parse_part

PRIOR = 0.01
"""What the auxiliary classifier of a converted softmax says everywhere: the probability at which
the next step's new classes start (:func:`dkd.network.deeplab.grow` copies it). Rare, as pixels of a
class are, so that at first the many pixels of everything else hardly pull at the features, and
below one half, so that the grown model predicts what its teacher does (as RetinaNet starts its
classifier, arXiv 1708.02002). Weights of 0: no feature speaks for a class that nobody has seen."""


@dataclass(frozen=True)
class Architecture:
    """A kind of model that can be recognised.

    Attributes:
        name: for people.
        network: what its program makes where nobody says otherwise; the file does not tell.
        prefixes: how its tensors' names begin, and how ours do instead; those of the one softmax
            head become those of head 1.
        auxiliary: how the names of tensors begin that only training uses.
        softmax: one head for background and classes, instead of one head of sigmoids a step.
    """

    name: str
    network: Network
    prefixes: tuple[tuple[str, str], ...]
    auxiliary: tuple[str, ...] = ()
    softmax: bool = True

    def ours(self, name: str) -> str | None:
        """Our name of one of its tensors; None for one that it does not have."""
        return _renamed(name, self.prefixes)

    def theirs(self, name: str) -> str:
        """Its name of one of our tensors."""
        back = [(ours, theirs) for theirs, ours in self.prefixes]
        return _renamed(name, back) or name


def _renamed(name: str, prefixes: Iterable[tuple[str, str]]) -> str | None:
    for before, after in prefixes:
        if name.startswith(before):
            return after + name.removeprefix(before)
    return None


_HEAD = (
    ("classifier.0.", "aspp."),
    ("classifier.1.", "aspp.last_conv.0."),
    ("classifier.2.", "aspp.last_conv.1."),
    ("classifier.4.", "cls.1."),
)
_TORCHVISION = partial(Architecture, auxiliary=("aux_classifier.",))
_SMP = partial(
    Architecture,
    prefixes=(
        ("encoder.", "backbone."),
        ("decoder.conv.", "aspp.last_conv.0."),
        ("decoder.bn.", "aspp.last_conv.1."),
        ("decoder.aspp.", "aspp."),
        # Before its version 0.4 the decoder's parts had numbers.
        ("decoder.0.", "aspp."),
        ("decoder.1.", "aspp.last_conv.0."),
        ("decoder.2.", "aspp.last_conv.1."),
        ("segmentation_head.0.", "cls.1."),
    ),
    auxiliary=("classification_head.",),
)
_WIDE = {"aspp_dilations": (12, 24, 36), "aspp_dropout": 0.5}
_SMPS = {**_WIDE, "output_stride": 8, "whole_stage_dilation": True, "align_corners": True}

ARCHITECTURES = (
    Architecture(
        "a released checkpoint of DKD's authors (ResNet-101)",
        Network(),
        tuple((prefix, prefix) for prefix in ("backbone.", "aspp.", "cls.")),
        softmax=False,
    ),
    *(
        _TORCHVISION(
            f"torchvision's deeplabv3_{backbone}",
            Network.of_structure({"backbone": backbone, "output_stride": 8, **_WIDE}),
            (("backbone.", "backbone."), *_HEAD),
        )
        for backbone in ("resnet50", "resnet101")
    ),
    _TORCHVISION(
        "torchvision's deeplabv3_mobilenet_v3_large",
        Network.of_structure({"backbone": "mobilenet_v3_large", **_WIDE}),
        (("backbone.", "backbone.features."), *_HEAD),
    ),
    *(
        _SMP(
            f"segmentation_models_pytorch's DeepLabV3 ({backbone})",
            Network.of_structure({"backbone": backbone, **_SMPS}),
        )
        for backbone in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
    ),
)
"""Tried in this order."""


@dataclass(frozen=True)
class Foreign:
    """A file that was recognised.

    Attributes:
        path: of it, or of the folder that was named.
        file: that holds the tensors.
        architecture: what it is.
        network: with the width that the tensors have, and what a description beside them says.
        tensors: by our names, float32.
        sigmoid: each channel of the one head is a sigmoid; None if nothing says so or otherwise.
    """

    path: Path
    file: Path
    architecture: Architecture
    network: Network
    tensors: Mapping[str, Tensor] = field(repr=False)
    sigmoid: bool | None = None

    @property
    def channels(self) -> int:
        """Of the one head of a softmax, background among them."""
        return len(self.tensors["cls.1.bias"])

    def model(self, counts: Sequence[int], network: Network | None = None) -> SegmentationModel:
        """The model of sigmoids that it is, or that :meth:`converted` made of it.

        Args:
            counts: number of classes by step.
            network: its own by default.

        Raises:
            UserError: a tensor is missing, left over, or has another shape than in a model of
                these classes: it is named.
        """
        with torch.device("meta"):
            model = SegmentationModel(network or self.network, counts)
        model = model.to_empty(device="cpu")
        load_strictly(model, self.tensors, source=str(self.file))
        return model

    def converted(self, classes: int, background: int = 0, sigmoid: bool = False) -> "Foreign":
        """The same with one sigmoid a class, and an auxiliary classifier (:data:`PRIOR`).

        Args:
            classes: number of classes that were named.
            background: number of background's channel, of a softmax.
            sigmoid: each channel is a sigmoid as it is: there is no background's.

        Raises:
            UserError: the head has another number of channels.
        """
        weight, bias = self.tensors["cls.1.weight"], self.tensors["cls.1.bias"]
        channels = len(bias)
        if not sigmoid:
            if classes != channels - 1:
                raise UserError(
                    f"--classes: {classes} names, but {self.path} has {channels} channels; name "
                    f"those of a softmax but for background's ({channels - 1}), or of sigmoids "
                    f"({channels}, with --activation sigmoid)"
                )
            if background >= channels:
                raise UserError(f"--background {background}: channels are 0 to {channels - 1}")
            weight, bias = (_less(tensor, background) for tensor in (weight, bias))
        elif classes != channels:
            raise UserError(
                f"--classes: {classes} names, but {self.path} has {channels} channels, each a "
                "sigmoid; name a class for each"
            )
        auxiliary = torch.full((1,), -math.log((1 - PRIOR) / PRIOR))
        tensors = {
            **self.tensors,
            "cls.0.weight": torch.zeros(1, *weight.shape[1:]),
            "cls.0.bias": auxiliary,
            "cls.1.weight": weight,
            "cls.1.bias": bias,
        }
        return replace(self, tensors=tensors, sigmoid=sigmoid)


def _less(tensor: Tensor, background: int) -> Tensor:
    """Every channel but background's, less background's: rounded once."""
    exact = tensor.double()
    others = [channel for channel in range(len(tensor)) if channel != background]
    return (exact[others] - exact[background]).float()


def recognise(path: Path) -> Foreign:
    """Reads a file, or a folder of segmentation_models_pytorch's ``save_pretrained``.

    Raises:
        UserError: it cannot be read, or fits no architecture: those that were tried are named, and
            the first tensor that does not fit the nearest of them.
    """
    described: Mapping[str, Any] = {}
    file = path
    if path.is_dir():
        described, file = _described(path), _weights_of(path)
    tensors = _as_float(read_state(file), str(file))
    strangers = [
        sum(architecture.ours(name) is None for name in tensors) for architecture in ARCHITECTURES
    ]
    nearest: tuple[int, str] | None = None
    for architecture, strange in zip(ARCHITECTURES, strangers, strict=True):
        if strange > min(strangers):
            continue  # by its names alone it is further off than another
        fitting, misfits = _fitted(architecture, tensors)
        if not misfits:
            structure = architecture.network.structure()
            network = Network.of_structure({**structure, "aspp_channels": _width(fitting)})
            found = Foreign(path, file, architecture, network, fitting)
            return _as_described(found, described) if described else found
        if nearest is None or len(misfits) < nearest[0]:
            more = f" ({len(misfits)} such)" if len(misfits) > 1 else ""
            nearest = len(misfits), f"{architecture.name}, but tensor {misfits[0]}{more}"
    assert nearest is not None, "there are architectures"
    tried = "; ".join(architecture.name for architecture in ARCHITECTURES)
    raise UserError(f"{file}: no architecture fits; nearest is {nearest[1]}. Tried: {tried}")


def _fitted(
    architecture: Architecture, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors by our names, and what does not fit: its own name and why, missing ones first."""
    found: dict[str, Tensor] = {}
    unexpected: list[str] = []
    for name, tensor in tensors.items():
        if architecture.auxiliary and name.startswith(architecture.auxiliary):
            continue
        ours = architecture.ours(name)
        if ours is None:
            unexpected.append(name)
        else:
            found[ours] = tensor
    with torch.device("meta"):
        network = Network.of_structure(
            {**architecture.network.structure(), "aspp_channels": _width(found)}
        )
        expected = SegmentationModel(network, _counts(found)).state_dict()
    own = {n for n in expected if not (architecture.softmax and n.startswith("cls.0."))}
    for name in own:
        if name.endswith("num_batches_tracked"):
            found.setdefault(name, torch.tensor(0))
    misfits = [f"{architecture.theirs(n)!r} is missing" for n in sorted(own - found.keys())]
    unexpected += [architecture.theirs(name) for name in found.keys() - own]
    misfits += [f"{name!r} is unexpected" for name in sorted(unexpected)]
    misfits += [
        f"{architecture.theirs(name)!r} is of another shape"
        for name in sorted(own & found.keys())
        if found[name].shape != expected[name].shape
    ]
    return found, misfits


def _width(tensors: Mapping[str, Tensor]) -> int:
    """Of ASPP; the usual one where the file does not tell."""
    projection = tensors.get("aspp.project.0.weight")
    usual = Network().aspp_channels
    return usual if projection is None else max(8, min(len(projection), 8192))


def _counts(tensors: Mapping[str, Tensor]) -> list[int]:
    """Channels of the heads 1, 2, ..., as far as there are any."""
    counts: list[int] = []
    while (bias := tensors.get(f"cls.{len(counts) + 1}.bias")) is not None and bias.dim() == 1:
        counts.append(len(bias))
    return counts or [1]


_WRAPPERS = ("module.", "_orig_mod.", "model.")


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, without the prefixes that wrappers leave.

    Raises:
        UserError: the file is missing, is neither safetensors nor in the zip format, or holds
            something else than tensors by name.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; name a .pth or .safetensors file of weights")
    if zipfile.is_zipfile(path):
        state = torch_files.tensors(_inner(torch_files.read(path)), str(path))
    elif path.suffix == ".safetensors":
        try:
            state = load_file(path)
        except (OSError, SafetensorError) as error:
            told = one_line(str(error))
            raise UserError(f"{path}: not a readable safetensors file: {told}") from None
        if not state:
            raise UserError(f"{path}: no tensors by name in it")
    else:
        raise UserError(
            f"{path}: neither a zip-format .pth file nor .safetensors: cut off, or older; copy "
            "it again, or save it again with torch.save"
        )
    while wrapper := next((w for w in _WRAPPERS if all(n.startswith(w) for n in state)), ""):
        state = {name.removeprefix(wrapper): tensor for name, tensor in state.items()}
    return state


def _inner(content: Any) -> Any:
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            return content[key]
    return content


def _as_float(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    tensors = {n: t.float() if t.is_floating_point() else t for n, t in state.items()}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise UserError(f"{source}: tensor {name!r} holds NaN or infinity")
    return tensors


# ---- folders that segmentation_models_pytorch's save_pretrained wrote

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def _described(folder: Path) -> Mapping[str, Any]:
    file = folder / "config.json"
    try:
        described: dict[str, Any] = json.loads(file.read_bytes())
    except OSError as error:
        raise UserError(
            f"{file}: {error.strerror}; name a file of weights, or a folder that "
            "segmentation_models_pytorch's save_pretrained wrote"
        ) from None
    except ValueError as error:
        raise UserError(f"{file}: not JSON: {one_line(str(error))}") from None
    for name, only, usual in (
        ("_model_class", "DeepLabV3", "DeepLabV3"),
        ("encoder_depth", 5, 5),
        ("in_channels", 3, 3),
        ("decoder_aspp_separable", False, False),
    ):
        if not isinstance(described, dict) or described.get(name, usual) != only:
            found = described.get(name) if isinstance(described, dict) else described
            raise UserError(one_line(f"{file}: {name} is {found!r}; only {only!r} can be read"))
    return described


def _weights_of(folder: Path) -> Path:
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder}: holds none of {', '.join(_WEIGHTS)}; save the model again")


def _as_described(found: Foreign, described: Mapping[str, Any]) -> Foreign:
    """With what segmentation_models_pytorch's ``config.json`` says."""
    names = {
        "output_stride": "encoder_output_stride",
        "aspp_dilations": "decoder_atrous_rates",
        "aspp_dropout": "decoder_aspp_dropout",
    }
    said = {ours: described[theirs] for ours, theirs in names.items() if theirs in described}
    file = str(found.path / "config.json")
    network = parse_part(Network, {**found.network.structure(), **said}, file)
    if described.get("upsampling") not in (None, network.stride):
        raise UserError(
            f"{file}: upsampling {described['upsampling']} is not the output stride: its masks "
            "are not of the images' size"
        )
    sigmoid = {"sigmoid": True, "softmax": False, "softmax2d": False, "logsoftmax": False}
    activation = sigmoid.get(str(described.get("activation")))
    return replace(found, network=network, sigmoid=activation)
