"""Layers folded into their convolutions give the same, and learn the same."""

import copy

import pytest
import torch
from small_models import later, model_of

from dkd.network.folding import FoldedConv2d, fold_student, fold_teacher

BACKBONES = ["demo", "resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_large"]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_folded_teacher_gives_the_same(backbone: str) -> None:
    plain = model_of(backbone).eval().double()
    folded = copy.deepcopy(plain)
    fold_teacher(folded)
    images = torch.randn(2, 3, 48, 48, dtype=torch.float64)
    with torch.no_grad():
        for one, other in zip(plain(images, 2), folded(images, 2), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    assert not any(
        isinstance(m, torch.nn.BatchNorm2d) and not m.folded for m in folded.modules()
    ), "every normalisation follows a convolution"


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_folded_student_learns_the_same(backbone: str) -> None:
    _, plain = later(backbone)
    plain = plain.double()
    folded = copy.deepcopy(plain)
    parameters = [id(p) for p in folded.parameters()]
    fold_student(folded)
    assert [id(p) for p in folded.parameters()] == parameters
    assert list(folded.state_dict()) == list(plain.state_dict())
    images = torch.randn(2, 3, 48, 48, dtype=torch.float64)
    for model in (plain, folded):
        model(images, 2).logits.square().mean().backward()
    for (name, one), other in zip(plain.named_parameters(), folded.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-7, atol=1e-12)


def test_a_folded_student_follows_a_loaded_state() -> None:
    _, student = later("demo")
    _, other = later("demo")
    other = copy.deepcopy(student)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1.1)
    fold_student(student)
    student.load_state_dict(other.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(student(images).logits, other(images).logits, rtol=1e-4, atol=1e-5)
    moved = copy.deepcopy(student).to(torch.float64)
    scales = [m.scale for m in moved.modules() if isinstance(m, FoldedConv2d)]
    assert scales
    assert {scale.dtype for scale in scales} == {torch.float64}
