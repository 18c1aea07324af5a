"""The losses against their definition written out, in any case; on ranks, and at the edges."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from dkd.losses import blockwise, reference
from dkd.losses.terms import LossWeights
from dkd.network.deeplab import Output, Reading, upsample

VOID = 255


def by_definition(
    student: Output,
    teacher: Output | None,
    label: Tensor,
    weights: LossWeights,
    covered: Tensor,
    pos_weight: float | Tensor,
    void_is_negative: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The definition as loops over classes and images, targets written out; slow and plain."""
    x = upsample(student.logits, label.shape[-2:])
    void = torch.iinfo(label.dtype).max
    valid = torch.ones_like(label, dtype=torch.bool) if void_is_negative else label != void

    positive = torch.ones(x.shape[1]) * pos_weight

    def mean(values: list[Tensor]) -> Tensor:
        together = torch.cat([v.flatten() for v in values]) if values else x.new_zeros(0)
        return together.sum() / max(together.numel(), 1)

    def bce(logits: Tensor, target: Tensor, positive: float = 1.0) -> Tensor:
        return -(positive * target * F.logsigmoid(logits) + (1 - target) * F.logsigmoid(-logits))

    terms = {
        "mbce": sum(
            mean(
                [
                    bce(x[n, k], (label[n] == k).to(x), positive[k])[valid[n]]
                    for n in range(len(x))
                    if covered[n, k - 1]
                ]
            )
            for k in range(1, x.shape[1])
        ),
        "ac": mean([bce(x[:, 0], torch.zeros_like(x[:, 0]))[valid]]),
    }
    if teacher:
        t = upsample(teacher.logits, label.shape[-2:]).sigmoid()
        old = range(1, t.shape[1])
        terms["kd"] = sum(mean([bce(x[:, k], t[:, k])[valid]]) for k in old)
        for name, ours, theirs in (
            ("dkd_pos", student.positive, teacher.positive),
            ("dkd_neg", student.negative, teacher.negative),
        ):
            each = bce(ours, theirs.sigmoid())
            terms[name] = sum(mean([each[:, k]]) for k in range(each.shape[1]))
    terms = {name: torch.as_tensor(v) for name, v in terms.items() if getattr(weights, name)}
    total = x.new_zeros(()) + sum(getattr(weights, name) * v for name, v in terms.items())
    return total, terms


def outputs(
    seed: int, images: int, classes: int, old: int, size: tuple[int, int], scale: float = 2.0
) -> tuple[Output, Output | None]:
    generator = torch.Generator().manual_seed(seed)

    def made(channels: int, grad: bool) -> Tensor:
        values = torch.randn(images, channels, *size, generator=generator, dtype=torch.float64)
        return (scale * values).requires_grad_(grad)

    features = torch.zeros(images, 1, *size, dtype=torch.float64)
    student = Output(features, made(1 + classes, True), made(old, True), made(old, True))
    if not old:
        return student, None
    return student, Output(features, made(1 + old, False), made(old, False), made(old, False))


def agree(
    student: Output,
    teacher: Output | None,
    label: Tensor,
    weights: LossWeights,
    covers: range,
    covered: Tensor | None,
    pos_weight: float | Tensor,
    void_is_negative: bool,
) -> None:
    """Asserts that both forms' values and all gradients are those of :func:`by_definition`."""
    learned = [t for t in (student.logits, student.positive, student.negative) if t.numel()]
    everywhere = torch.zeros(len(label), student.logits.shape[1] - 1, dtype=torch.bool)
    everywhere[:, covers.start - 1 : covers.stop - 1] = True
    expected, terms = by_definition(
        student,
        teacher,
        label,
        weights,
        everywhere if covered is None else covered,
        pos_weight,
        void_is_negative,
    )
    for form in (blockwise.total, reference.total):
        found = form(
            student,
            teacher,
            label,
            weights=weights,
            covers=covers,
            pos_weight=pos_weight,
            void_is_negative=void_is_negative,
            covered=covered,
        )
        assert set(found.terms) == set(terms)
        for name, value in terms.items():
            torch.testing.assert_close(found.terms[name], value, rtol=1e-9, atol=1e-12, msg=name)
        torch.testing.assert_close(found.total, expected, rtol=1e-9, atol=1e-12)
        if not expected.requires_grad:
            continue
        ours = torch.autograd.grad(found.total, learned, allow_unused=True)
        theirs = torch.autograd.grad(expected, learned, allow_unused=True, retain_graph=True)
        for one, other, input_ in zip(ours, theirs, learned, strict=True):
            zero = torch.zeros_like(input_)
            torch.testing.assert_close(
                zero if one is None else one,
                zero if other is None else other,
                rtol=1e-8,
                atol=1e-12,
            )


@settings(max_examples=60)
@given(st.data())
def test_any_case_is_as_defined(data: st.DataObject) -> None:
    draw = data.draw
    images, old, new = draw(st.integers(1, 3)), draw(st.integers(0, 3)), draw(st.integers(1, 3))
    classes = old + new
    seed = draw(st.integers(0, 2**31))
    student, teacher = outputs(seed, images, classes, old, (draw(st.integers(1, 4)), 3))
    rng = np.random.default_rng(seed)
    height, width = draw(st.integers(1, 9)), draw(st.integers(2, 9))
    label = rng.integers(0, classes + 2, (images, height, width))
    label = label.astype(draw(st.sampled_from([np.uint8, np.int16, np.int32])))
    label[label == classes + 1] = np.iinfo(label.dtype).max
    off = st.sampled_from([0.0, 0.5, 2.0])
    weights = LossWeights(
        draw(off), *([draw(off) for _ in range(3)] if old else [0, 0, 0]), draw(off)
    )
    covered = torch.from_numpy(rng.random((images, classes)) < 0.6) if draw(st.booleans()) else None
    agree(
        student,
        teacher,
        torch.from_numpy(label),
        weights,
        draw(st.sampled_from([range(1 + old, 1 + classes), range(1, 1 + classes)])),
        covered,
        draw(st.sampled_from([1.0, 35.0, torch.linspace(0.5, 9, 1 + classes)])),
        draw(st.booleans()),
    )


@pytest.mark.parametrize("block", [1, 40, 100, 10_000])
@pytest.mark.parametrize("memory", [False, True])
def test_the_size_of_blocks_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, block: int, memory: bool
) -> None:
    monkeypatch.setattr(blockwise, "_CPU_BLOCK", block)
    student, teacher = outputs(3, images=3, classes=5, old=3, size=(3, 2))
    label = torch.randint(0, 6, (3, 5, 4), generator=torch.Generator().manual_seed(1)).byte()
    label[0, :2] = VOID
    covered = torch.tensor([[0, 0, 0, 1, 1], [1, 0, 1, 1, 1], [0, 0, 0, 1, 1]]).bool()
    agree(
        student, teacher, label, LossWeights(), range(4, 6), covered if memory else None, 2.0, False
    )


EDGE_LABELS = {
    "all background": torch.zeros(2, 6, 6, dtype=torch.uint8),
    "void only": torch.full((2, 6, 6), VOID, dtype=torch.uint8),
    "one image void": torch.stack(
        [torch.full((6, 6), VOID, dtype=torch.uint8), torch.full((6, 6), 3, dtype=torch.uint8)]
    ),
    "a class missing": torch.full((2, 6, 6), 4, dtype=torch.uint8),
    "a batch of one": torch.full((1, 6, 6), 3, dtype=torch.uint8),
    "one pixel": torch.full((1, 1, 1), 3, dtype=torch.uint8),
}


@pytest.mark.parametrize("void_is_negative", [True, False])
@pytest.mark.parametrize("label", EDGE_LABELS.values(), ids=EDGE_LABELS)
@pytest.mark.parametrize("nobody_covered", [False, True])
def test_edges(label: Tensor, void_is_negative: bool, nobody_covered: bool) -> None:
    student, teacher = outputs(5, images=len(label), classes=4, old=2, size=(2, 2))
    covered = torch.zeros(len(label), 4, dtype=torch.bool) if nobody_covered else None
    agree(student, teacher, label, LossWeights(), range(3, 5), covered, 35.0, void_is_negative)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("level", [100.0, 6e4, 1e30, float("inf")])
@pytest.mark.parametrize("void_is_negative", [True, False])
def test_extreme_logits_give_numbers(
    dtype: torch.dtype, level: float, void_is_negative: bool
) -> None:
    signs = torch.tensor([1.0, -1.0]).repeat(5 * 18)

    def extreme(channels: int, flip: float) -> Tensor:
        values = (signs * flip)[: 2 * channels * 9].view(2, channels, 3, 3)
        return (values * level).to(dtype).requires_grad_()

    features = torch.zeros(2, 1, 3, 3)
    student = Output(features, extreme(5, 1), extreme(2, 1), extreme(2, 1))
    teacher = Output(features, extreme(3, -1), extreme(2, -1), extreme(2, -1))
    label = torch.zeros(2, 12, 12, dtype=torch.uint8)
    label[0, :6], label[1, :6], label[:, 11] = 3, 4, VOID
    found = blockwise.total(
        student,
        Output(*(t.detach() for t in teacher)),
        label,
        weights=LossWeights(),
        covers=range(3, 5),
        pos_weight=35.0,
        void_is_negative=void_is_negative,
    )
    found.total.backward()
    assert found.total.isfinite()
    assert all(value.isfinite() for value in found.terms.values())
    for tensor in (student.logits, student.positive, student.negative):
        assert tensor.grad.isfinite().all()
    # It pulls every wrong logit the right way: none of the extremes has lost its gradient.
    assert (student.logits.grad[:, 0][student.logits[:, 0] > 0] > 0).all()


def test_a_broken_network_is_not_hidden() -> None:
    student, teacher = outputs(1, images=1, classes=3, old=2, size=(2, 2))
    logits = student.logits.detach().clone()
    logits[0, 3, 0, 0] = float("nan")
    label = torch.zeros(1, 4, 4, dtype=torch.uint8)
    found = blockwise.total(
        student._replace(logits=logits), teacher, label, weights=LossWeights(), covers=range(3, 4)
    )
    assert found.total.isnan()


def test_gradients_by_finite_differences() -> None:
    student, teacher = outputs(2, images=2, classes=3, old=2, size=(2, 3), scale=1.0)
    label = torch.tensor([[0, 1, 3, 255], [2, 3, 3, 0]]).byte().repeat(2, 2, 1)

    def loss(*tensors: Tensor) -> Tensor:
        return blockwise.total(
            Output(student.features, *tensors),
            teacher,
            label,
            weights=LossWeights(0.7, 2, 3, 4, 0.3),
            covers=range(3, 4),
            pos_weight=2.0,
            covered=torch.tensor([[False, False, True], [True, False, True]]),
        ).total

    assert torch.autograd.gradcheck(loss, (student.logits, student.positive, student.negative))


@pytest.mark.parametrize("corrected", [True, False])
def test_ranks_together_have_the_single_process_loss(corrected: bool) -> None:
    """Shares of 1 and 3 images with unlike void: averaging ranks gives the whole batch's."""
    student, teacher = outputs(9, images=4, classes=3, old=2, size=(3, 3))
    label = torch.randint(0, 4, (4, 7, 7), generator=torch.Generator().manual_seed(2)).byte()
    label[0, :5] = VOID
    covered = torch.tensor([[0, 0, 1], [1, 1, 1], [0, 0, 1], [0, 1, 1]]).bool()

    def loss(images: slice, average: object) -> Tensor:
        return blockwise.total(
            Output(*(t[images] for t in student)),
            Output(*(t[images] for t in teacher)),
            label[images],
            weights=LossWeights(),
            covers=range(3, 4),
            void_is_negative=not corrected,
            covered=covered[images] if corrected else None,
            average=average,
        ).total

    shares = [slice(0, 1), slice(1, 4)]
    sent: list[Tensor] = []

    def collect(counts: Tensor) -> Tensor:
        sent.append(counts)
        return counts

    for images in shares:
        loss(images, collect)
    mean = sum(sent) / 2
    found = sum(loss(images, lambda _: mean) for images in shares) / 2
    torch.testing.assert_close(found, loss(slice(0, 4), None), rtol=1e-12, atol=0)


def test_distillation_without_a_teacher_is_refused() -> None:
    student, _ = outputs(1, images=1, classes=2, old=0, size=(2, 2))
    with pytest.raises(ValueError, match="teacher"):
        blockwise.total(
            student, None, torch.zeros(1, 4, 4).byte(), weights=LossWeights(), covers=range(1, 3)
        )


def test_the_sum_of_softplus_is_what_a_gpu_takes() -> None:
    generator = torch.Generator().manual_seed(1)
    x = 8 * torch.randn(2, 3, 37, 5, generator=generator)
    x[0, 0, 0] = torch.tensor([0.0, 90.0, -90.0, 65504.0, -131008.0])
    torch.testing.assert_close(
        blockwise._softplus_sums(x), F.softplus(x).sum((2, 3)), rtol=1e-5, atol=1e-5
    )


def test_nothing_is_kept_at_full_resolution() -> None:
    """What the graph holds for the backward pass is of the features' size, not the labels'."""
    student, teacher = outputs(1, images=2, classes=6, old=3, size=(4, 4))
    label = torch.zeros(2, 256, 256, dtype=torch.uint8)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor
    ):
        blockwise.total(student, teacher, label, weights=LossWeights(), covers=range(4, 7))
    assert kept
    assert max(kept) == student.logits.numel()


def test_the_order_of_classes_does_not_matter() -> None:
    """Old and new classes in another channel order, mapped back, give the same gradients."""
    student, teacher = outputs(4, images=2, classes=5, old=3, size=(3, 3))
    label = torch.randint(0, 6, (2, 9, 9), generator=torch.Generator().manual_seed(6)).byte()
    label[0, 0] = VOID
    order = torch.tensor([0, 2, 3, 1, 5, 4])  # channel k of the other order is this one of ours
    number = torch.full((256,), VOID)
    number[order] = torch.arange(6)

    def gradients(label: Tensor, logits: Tensor, old: Tensor) -> Tensor:
        found = blockwise.total(
            student._replace(logits=logits),
            teacher._replace(logits=old),
            label,
            weights=LossWeights(dkd_pos=0, dkd_neg=0),
            covers=range(4, 6),
            pos_weight=2.0,
        )
        return torch.autograd.grad(found.total, student.logits)[0]

    torch.testing.assert_close(
        gradients(
            number[label.long()].byte(), student.logits[:, order], teacher.logits[:, order[:4]]
        ),
        gradients(label, student.logits, teacher.logits),
    )


def test_logits_enlarged_corner_to_corner() -> None:
    """By blocks as written out, values and gradients, and unlike the usual way."""
    torch.manual_seed(8)
    label = torch.randint(0, 4, (2, 16, 12)).byte()
    weights = LossWeights(kd=1.0, dkd_pos=0, dkd_neg=0)
    found: dict[object, tuple[Tensor, Tensor]] = {}
    for align in (True, False):
        for way in (blockwise, reference):
            logits = torch.linspace(-3, 4, 2 * 4 * 12, dtype=torch.float64).view(2, 4, 4, 3)
            logits = logits.sin().requires_grad_()
            no = logits[:, :0]
            loss = way.total(
                Output(no, logits, no, no),
                Output(no, logits.detach().cos()[:, :3], no, no),
                label,
                weights=weights,
                covers=range(3, 4),
                reading=Reading(align_corners=align),
            ).total
            loss.backward()
            found[align, way] = loss.detach(), logits.grad
    for align in (True, False):
        torch.testing.assert_close(found[align, blockwise], found[align, reference])
    assert not torch.allclose(found[True, blockwise][1], found[False, blockwise][1])
