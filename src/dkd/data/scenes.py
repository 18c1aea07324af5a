"""What modules have in common that draw scenes, :mod:`dkd.data.digits` for one."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

SceneArray = npt.NDArray[np.uint8]
DrawScene = Callable[[np.random.Generator], tuple[SceneArray, SceneArray]]
"""Draws an image (size, size, 3) and its mask (size, size)."""


class Drawing(Protocol):
    """A module that draws scenes."""

    @property
    def VERSION(self) -> int:  # noqa: N802 - a module's constant
        """Raised when the scenes change."""

    def classes(self, settings: Any) -> Mapping[int, str]:
        """Names by label value."""

    def scenes(self, settings: Any, split: str) -> DrawScene:
        """What draws a scene of a split, ``train`` or ``validation``.

        Raises:
            UserError: a package is missing that holds what is drawn.
        """
