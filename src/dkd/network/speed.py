"""What a device decides of :class:`dkd.scenario.speed.Speed`."""

from typing import Any

from dkd.network import triton_support
from dkd.scenario.speed import Speed

_KERNELS = ("triton_losses", "triton_pooling")
_BY_DEVICE = (
    "channels_last",
    "fold_norms",
    "unshuffled_stem",
    "fused_optimiser",
    "recorded",
    "device_transforms",
    "prefetch",
)


def decided(speed: Speed, gpu: bool) -> Speed:
    """The same with a value for everything that is null.

    Args:
        speed: what the scenario says.
        gpu: whether the device is one.
    """
    given = speed.model_dump(exclude_none=True)
    by_device: dict[str, Any] = dict.fromkeys(_BY_DEVICE, gpu)
    by_device |= dict.fromkeys(_KERNELS, gpu and triton_support.missing() is None)
    by_device["evaluation_batch"] = 16 if gpu else 1
    never = {} if gpu else dict.fromkeys((*_KERNELS, "recorded"), False)
    return Speed(**{**by_device, **given, **never})
