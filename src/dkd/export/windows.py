"""Swin's attention in windows, so that a graph of it holds for images of every size.

torchvision's function asks how large its features are: where one window holds all of them it does
not shift. A tracer would take the answer for its sample image's as that for every image, and
spends minutes on proofs about remainders of divisions before. Here the number of windows and the
shift are part of the graph.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2

_HIDDEN = -100.0
"""What is added for features that a window holds only because of the shift."""


class WindowAttention(nn.Module):
    """The same function as one of torchvision's modules, whose weights it takes.

    Args:
        module: of the first or second version of Swin; its window is square. In eval mode.
    """

    bias: Tensor

    def __init__(self, module: ShiftedWindowAttention) -> None:
        super().__init__()
        self.window, self.shift = int(module.window_size[0]), int(module.shift_size[0])
        self.heads = int(module.num_heads)
        self.qkv, self.proj = module.qkv, module.proj
        # A function of the weights alone.
        self.register_buffer("bias", module.get_relative_position_bias().detach())
        self.scale: nn.Parameter | None = None
        if isinstance(module, ShiftedWindowAttentionV2):
            self.scale = nn.Parameter(module.logit_scale.clamp(max=math.log(100.0)).exp())
            if self.qkv.bias is not None:
                with torch.no_grad():
                    self.qkv.bias.chunk(3)[1].zero_()  # the keys have none

    def forward(self, x: Tensor) -> Tensor:
        """Features ``N x H x W x C``, both ways."""
        count, height, width, channels = x.shape
        w = self.window
        down, across = self._windows(height), self._windows(width)
        x = F.pad(x, (0, 0, 0, across * w - width, 0, down * w - height))
        rows, columns = self._shift(height), self._shift(width)
        x = x[:, _around(down * w, down * w, rows)][:, :, _around(across * w, across * w, columns)]
        x = x.reshape(count, down, w, across, w, channels)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(count, down * across, w * w, channels)
        x = self.proj(self._attention(x, self._hidden(down, rows, across, columns)))
        x = x.reshape(count, down, across, w, w, channels)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(count, down * w, across * w, channels)
        x = x[:, _around(height, down * w, -rows)]
        return x[:, :, _around(width, across * w, -columns)]

    def _windows(self, features: int) -> int:
        """Two at least, as a tracer takes one of anything for a constant; one may be empty."""
        return cast(int, torch.sym_max((features + self.window - 1) // self.window, 2))

    def _shift(self, features: int) -> Tensor:
        """By how many features: none where one window holds all of them."""
        return self.shift * (torch.full((1,), features) > self.window)

    def _hidden(self, down: int, rows: Tensor, across: int, columns: Tensor) -> Tensor:
        """``windows x w*w x w*w``: what is added to the likeness of two features of a window.

        Those that the shift brought in from the other side are another part of the image.
        """
        w = self.window
        below = (torch.arange(down * w) >= down * w - rows).float().reshape(down, 1, w, 1)
        beside = (torch.arange(across * w) >= across * w - columns).float().reshape(1, across, 1, w)
        parts = (2 * below + beside).reshape(down * across, w * w)
        return _HIDDEN * (parts[:, :, None] != parts[:, None]).float()

    def _attention(self, x: Tensor, hidden: Tensor) -> Tensor:
        """``N x windows x w*w x C``, both ways."""
        count, windows, features, channels = x.shape
        heads = self.qkv(x).reshape(count, windows, features, 3, self.heads, channels // self.heads)
        q, k, v = heads.permute(3, 0, 1, 4, 2, 5)
        if self.scale is None:
            alike = (q * (channels // self.heads) ** -0.5) @ k.transpose(-2, -1)
        else:
            alike = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * self.scale
        alike = alike + self.bias + hidden[:, None]
        mixed = F.softmax(alike, dim=-1) @ v
        return cast(Tensor, mixed.transpose(2, 3).reshape(count, windows, features, channels))


def _around(count: int, whole: int, shift: Tensor) -> Tensor:
    """The first ``count`` of ``whole`` places, moved by less than ``whole``, round the end.

    Without a remainder by a size, which the exporter to ONNX does not know.
    """
    length = torch.full((1,), whole)
    places = torch.arange(count) + shift + length * (shift < 0)
    return places - length * (places >= length)


def replace_windows(model: nn.Module) -> None:
    """Puts :class:`WindowAttention` in the place of every module of torchvision's."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, ShiftedWindowAttention):
                setattr(module, name, WindowAttention(child))
