"""Figures of the other methods' programs (``tests/reference/methods``, described there)."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

HERE = Path(__file__).parents[1] / "reference" / "methods"
SHARED = Path(__file__).parents[3] / "shared" / "methods"


@cache
def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


class Figures:
    """One file: reads entries by name, optionally of one step and one batch."""

    def __init__(self, case: str, dtype: torch.dtype = torch.float64) -> None:
        path = next(
            (f / f"{case}.npz" for f in (HERE, SHARED) if (f / f"{case}.npz").is_file()), None
        )
        if path is None:
            pytest.skip(f"{case}.npz is too large to be kept here; no ../shared/methods either")
        self.arrays = _read(path)
        self.dtype = dtype

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __getitem__(self, name: str) -> Tensor:
        """A tensor; real numbers in this object's type."""
        array = self.arrays[name]
        tensor = torch.from_numpy(np.array(array))
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def number(self, name: str) -> float:
        return float(self.arrays[name])

    def leaf(self, name: str, batch: int | None = None) -> Tensor:
        tensor = self[name]
        return (tensor if batch is None else tensor[batch]).clone().requires_grad_()


def agree(
    ours: Tensor, expected: Tensor, tolerance: float, what: str = "", batch: int | None = None
) -> None:
    """Compares; differences are taken relative to the largest entry of the expected array.

    With ``batch``, the array holds every batch's and this one is compared.
    """
    expected = expected.detach()
    scale = max(float(expected.double().abs().nan_to_num(0).max()), 1e-300)
    expected = expected if batch is None else expected[batch]
    gap = float((ours.detach().double() - expected.double()).abs().max())
    assert gap <= tolerance * scale, f"{what}: {gap / scale:.2e} > {tolerance:.0e}"


def heads(figures: Figures, prefix: str = "") -> tuple[list[Tensor], list[Tensor]]:
    """Weights ``n x C`` and biases of every head under a prefix, as leaves."""
    weights, biases, number = [], [], 0
    while f"{prefix}cls{number}_weight" in figures:
        weights.append(figures.leaf(f"{prefix}cls{number}_weight"))
        biases.append(figures.leaf(f"{prefix}cls{number}_bias"))
        number += 1
    return weights, biases


def scored(features: Tensor, weights: list[Tensor], biases: list[Tensor]) -> Tensor:
    return F.conv2d(features, torch.cat(weights)[:, :, None, None], torch.cat(biases))
