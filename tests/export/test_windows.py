"""Swin's attention as it is exported, beside torchvision's own module."""

import copy
from typing import Any

import pytest
import torch
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2

from dkd.export.windows import WindowAttention, replace_windows

SIZES = ((1, 1), (4, 9), (9, 4), (5, 6), (8, 12), (13, 7))
"""Features: within one window, or in one direction, whole windows, and parts of some."""


def attention(kind: Any, shift: int) -> Any:
    torch.manual_seed(0)
    module = kind(6, [4, 4], [shift, shift], 3).eval()
    for each in module.parameters():
        torch.nn.init.normal_(each)
    return module


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("kind", [ShiftedWindowAttention, ShiftedWindowAttentionV2])
def test_it_is_torchvisions_function(kind: Any, shift: int) -> None:
    module = attention(kind, shift)
    ours = WindowAttention(copy.deepcopy(module))
    for size in SIZES:
        x = torch.randn(2, *size, 6)
        with torch.no_grad():
            assert torch.equal(ours(x), module(x)), size


def test_its_graph_holds_for_every_size() -> None:
    """That of torchvision's, traced with features that one window holds, shifts none."""
    module = attention(ShiftedWindowAttention, 2)
    model = torch.nn.Sequential(copy.deepcopy(module)).eval()
    replace_windows(model)
    dynamic = torch.export.Dim.DYNAMIC
    program = torch.export.export(
        model, (torch.randn(2, 3, 4, 6),), dynamic_shapes=({0: dynamic, 1: dynamic, 2: dynamic},)
    )
    for size in SIZES:
        x = torch.randn(3, *size, 6)
        with torch.no_grad():
            torch.testing.assert_close(program.module()(x), module(x))
