"""The stem's kernel beside PyTorch's functions; and what its compiling needs."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dkd.network import triton_support
from dkd.network.pooling_kernel import pooled
from dkd.network.speed import decided
from dkd.scenario.speed import Speed

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def frozen(channels: int) -> nn.BatchNorm2d:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(channels).to(DEVICE).eval().requires_grad_(False)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    norm.weight.uniform_(-1, 2)  # a negative one turns the order round
    norm.bias.uniform_(-0.2, 1)
    return norm


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(8, 6), (7, 9), (1, 1), (2, 1)], ids=str)
@pytest.mark.parametrize("channels", [64, 48])
def test_result_and_gradient_are_pytorchs(
    channels: int, size: tuple[int, int], kind: torch.dtype
) -> None:
    norm = frozen(channels)
    x = torch.randn(2, channels, *size, device=DEVICE).to(kind).requires_grad_()
    ours = pooled(norm, x)
    plain = F.max_pool2d(F.relu(norm(x.float())), 3, 2, 1)
    assert ours.dtype == kind
    assert ours.is_contiguous(memory_format=torch.channels_last)
    exact = kind is torch.float32
    within = {"rtol": 1e-5 if exact else 1e-2, "atol": 1e-5 if exact else 1e-2}
    torch.testing.assert_close(ours.float(), plain, **within)
    dy = torch.randn_like(plain).to(kind)
    (found,) = torch.autograd.grad(ours, x, dy)
    (expected,) = torch.autograd.grad(plain, x, dy.float())
    torch.testing.assert_close(found.float(), expected.float(), **within)


def test_nan_goes_through() -> None:
    x = torch.zeros(1, 16, 4, 4, device=DEVICE)
    x[0, 3, 1, 1] = float("nan")
    plain = F.max_pool2d(F.relu(frozen(16)(x)), 3, 2, 1)
    torch.testing.assert_close(pooled(frozen(16), x), plain, equal_nan=True)


def test_without_a_compiler_a_gpu_goes_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_support, "missing", lambda: "no C compiler")
    assert not decided(Speed(), gpu=True).triton_losses
    assert decided(Speed(), gpu=True).fold_norms
    assert decided(Speed(triton_losses=True), gpu=True).triton_losses, "asked for is asked for"


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "/usr/bin/cc")
    monkeypatch.setattr(triton_support.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    assert "Python.h" in str(triton_support.missing())
    (tmp_path / "Python.h").touch()
    assert triton_support.missing() is None
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "C compiler" in str(triton_support.missing())
    monkeypatch.setattr(triton_support.importlib.util, "find_spec", lambda _name: None)
    assert triton_support.missing() == "no package triton"
