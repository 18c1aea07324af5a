"""The losses' kernel beside the blocks that every device has, which the reference figures test.

In Triton's interpreter where there is no GPU.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dkd.losses import blockwise, kernel
from dkd.losses.terms import LossWeights
from dkd.network.deeplab import Output
from dkd.scenario.tasks import VOID

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FULL = LossWeights(dkd_pos=0, dkd_neg=0)


def outputs(images: int, classes: int, old: int, size: tuple[int, int]) -> tuple[Output, Output]:
    generator = torch.Generator().manual_seed(1)

    def made(channels: int, grad: bool) -> Tensor:
        values = 4 * torch.randn(images, channels, *size, generator=generator)
        return values.to(DEVICE).requires_grad_(grad)

    none = torch.zeros(images, 0, *size, device=DEVICE)
    return Output(none, made(1 + classes, True), none, none), Output(
        none, made(1 + old, False), none, none
    )


def labels(images: int, classes: int, size: tuple[int, int], kind: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    label = torch.randint(0, 1 + classes, (images, *size), generator=generator)
    label[0, : size[0] // 3] = torch.iinfo(kind).max  # void
    return label.to(DEVICE, kind)


SIZES = {
    "sixteen times": ((2, 3), (32, 48)),
    "no whole number of times": ((3, 4), (13, 17)),
    "two to one": ((3, 3), (6, 6)),
    "as large": ((4, 3), (4, 3)),
    "smaller": ((3, 3), (2, 2)),
    "one pixel": ((2, 2), (1, 1)),
    "one feature": ((1, 1), (7, 5)),
    "more features than a program has": ((2, 70), (8, 280)),
}


@pytest.mark.parametrize("void_is_negative", [False, True])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_values_and_gradient_are_those_of_blocks(
    size: tuple[tuple[int, int], tuple[int, int]], void_is_negative: bool
) -> None:
    student, teacher = outputs(2, 5, 3, size[0])
    agree(student, teacher, labels(2, 5, size[1], torch.uint8), void_is_negative=void_is_negative)


@pytest.mark.parametrize("pos_weight", [1.0, 35.0, torch.linspace(0.5, 9, 6, device=DEVICE)])
@pytest.mark.parametrize(
    "weights",
    [FULL, replace(FULL, kd=0), replace(FULL, ac=0), replace(FULL, mbce=0)],
    ids=["all", "no kd", "no ac", "no mbce"],
)
def test_every_term_alone_and_together(weights: LossWeights, pos_weight: float | Tensor) -> None:
    student, teacher = outputs(2, 5, 3, (3, 3))
    label = labels(2, 5, (12, 12), torch.uint8)
    agree(student, teacher, label, weights=weights, pos_weight=pos_weight)


def test_images_that_cover_other_classes() -> None:
    student, teacher = outputs(3, 5, 3, (3, 3))
    covered = torch.tensor([[0, 0, 0, 1, 1], [1, 0, 1, 1, 1], [0, 0, 0, 0, 0]]).bool()
    agree(
        student,
        teacher,
        labels(3, 5, (12, 12), torch.uint8),
        covered=covered.to(DEVICE),
        pos_weight=3.0,
    )


def test_more_classes_than_a_byte_counts() -> None:
    student, teacher = outputs(1, 300, 2, (2, 2))
    label = labels(1, 300, (8, 8), torch.int16)
    agree(student, teacher, label, covers=range(298, 301))


def test_the_first_step_has_no_teacher() -> None:
    student, _ = outputs(1, 3, 0, (2, 2))
    weights = replace(FULL, kd=0)
    agree(student, None, labels(1, 3, (8, 8), torch.uint8), weights=weights, covers=range(1, 4))


def test_what_it_does_not_take_goes_by_blocks() -> None:
    small, label = torch.zeros(1, 2, 2, 2), torch.zeros(1, 128, 128)
    assert kernel.fits(small, label)
    assert not kernel.fits(small.double(), label)
    assert not kernel.fits(small, torch.zeros(1, 130, 128))
    assert not kernel.fits(small, torch.zeros(1, 128, 1026))
    student, teacher = outputs(1, 3, 2, (1, 1))
    agree(student, teacher, labels(1, 3, (65, 2), torch.uint8), covers=range(3, 4))


@pytest.mark.parametrize("void", [False, True])
def test_a_broken_network_is_not_hidden(void: bool) -> None:
    student, teacher = outputs(1, 5, 3, (2, 2))
    with torch.no_grad():
        student.logits[0, 2, 0, 0] = float("nan")
    label = torch.full((1, 8, 8), VOID if void else 0, dtype=torch.uint8, device=DEVICE)
    found = fused(student, teacher, label)
    assert bool(found.total.isnan()) != void


def test_extreme_logits_give_numbers() -> None:
    student, teacher = outputs(1, 5, 3, (2, 2))
    with torch.no_grad():
        student.logits[:, :3] = 1e30
        student.logits[:, 3:] = -1e30
        teacher.logits[:] = -float("inf")
    found = fused(student, teacher, labels(1, 5, (8, 8), torch.uint8))
    (gradient,) = torch.autograd.grad(found.total, student.logits)
    assert found.total.isfinite()
    assert gradient.isfinite().all()


def fused(student: Output, teacher: Output | None, label: Tensor) -> blockwise.Losses:
    return blockwise.total(student, teacher, label, weights=FULL, covers=range(4, 6), fused=True)


def agree(
    student: Output,
    teacher: Output | None,
    label: Tensor,
    weights: LossWeights = FULL,
    covers: range = range(4, 6),
    **more: object,
) -> None:
    """Asserts that both have the same terms and gradient, as far as single precision goes."""
    both = [
        blockwise.total(student, teacher, label, weights=weights, covers=covers, fused=on, **more)
        for on in (False, True)
    ]
    by_blocks, by_kernel = both
    assert by_blocks.terms.keys() == by_kernel.terms.keys()
    for name, value in by_blocks.terms.items():
        torch.testing.assert_close(by_kernel.terms[name], value, rtol=1e-5, atol=1e-6, msg=name)
    plain, ours = (torch.autograd.grad(found.total, student.logits)[0] for found in both)
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-6 * float(plain.abs().max()))
