"""Channel numbers of pixels: the smallest type that holds them, and its number for void.

Up to 254 classes take 8 bits, in which 255 is void. More take a wider type, and void is always its
largest number; so labels say themselves what is void, and those of 8 bits stay as fast as they are.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Channels = npt.NDArray[np.integer[Any]]
"""Channel numbers of pixels, or by label value, of a type that :func:`type_for` gives."""

_TYPES = (np.uint8, np.int16, np.int32)  # PyTorch computes with no other unsigned type
_VOID = {np.dtype(each).name: int(np.iinfo(each).max) for each in (*_TYPES, np.uint16)}


def type_for(classes: int) -> np.dtype[Any]:
    """The smallest type for background, so many classes and void: uint8, int16 or int32."""
    return np.dtype(next(each for each in _TYPES if classes < np.iinfo(each).max))


def predicted_type(classes: int) -> np.dtype[Any]:
    """The type of a prediction, which has no void: uint8 or int32 (ONNX Runtime lacks int16)."""
    return np.dtype(np.uint8 if type_for(classes) == np.uint8 else np.int32)


def void_of(labels: "Tensor | npt.NDArray[Any]") -> int:
    """The number that is void among labels of this type: the largest.

    Raises:
        KeyError: no labels are of this type.
    """
    return _VOID[str(labels.dtype).removeprefix("torch.")]
