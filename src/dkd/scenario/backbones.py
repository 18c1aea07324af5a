"""Backbones by name, and their output strides; others by entry points of ``dkd.backbones``.

    [project.entry-points."dkd.backbones"]
    mine = "my_package:MINE"        # a dkd.network.backbones.Backbone

The networks themselves are in :mod:`dkd.network.backbones`; this needs no torch.
"""

from importlib.metadata import entry_points

BACKBONE_GROUP = "dkd.backbones"

RESNETS = ("resnet101", "resnet152", "resnet50", "resnet34", "resnet18")
_DILATED = (16, 8)
_INTERLEAVED = (16, 32)
OUTPUT_STRIDES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(RESNETS, _DILATED),
    "mobilenet_v2": _DILATED,
    "mobilenet_v3_large": _DILATED,
    "swin_t": _INTERLEAVED,
    "swin_s": _INTERLEAVED,
    "swin_b": _INTERLEAVED,
    "swin_v2_t": _INTERLEAVED,
    "swin_v2_s": _INTERLEAVED,
    "swin_v2_b": _INTERLEAVED,
    "convnext_tiny": _INTERLEAVED,
    "convnext_base": _INTERLEAVED,
    "demo": (4, 8),
}
"""What the package's own can have, in pixels of the image per feature; the usual one first."""

_ANY = (16, 8, 32, 4)
"""What a backbone from outside is asked for; it may refuse."""


def names() -> tuple[str, ...]:
    """Every name that a scenario can say here."""
    outside = {entry.name for entry in entry_points(group=BACKBONE_GROUP)}
    return (*OUTPUT_STRIDES, *sorted(outside - OUTPUT_STRIDES.keys()))


def known(name: str) -> bool:
    """Whether a scenario can say this name. Packages are asked only for one that is not our own:
    finding what is installed takes longer than all else that is checked of a scenario.
    """
    return name in OUTPUT_STRIDES or name in names()


def output_strides(name: str) -> tuple[int, ...]:
    """The output strides that a backbone can be asked for, the usual one first."""
    return OUTPUT_STRIDES.get(name, _ANY)
