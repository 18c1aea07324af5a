"""MiB's losses against its program's figures and against derivatives."""

import pytest
import torch
from method_figures import Figures, agree, heads, scored
from torch import Tensor
from torch.nn import functional as F

from dkd.losses import mib

CASES = ["mib_1", "mib_2"]
KINDS = {torch.float64: (1e-9, 1e-9), torch.float32: (1e-6, 1e-5)}


def up(logits: Tensor, label: Tensor) -> Tensor:
    return F.interpolate(logits, label.shape[-2:], mode="bilinear")


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients(case: str, dtype: torch.dtype) -> None:
    figures = Figures(case, dtype)
    tolerance, gradient_tolerance = KINDS[dtype]
    old = sum(figures["classes_with_background"].tolist()[:-1])
    for batch, label in enumerate(figures["label"]):
        x = figures.leaf("features", batch)
        weights, biases = heads(figures)
        logits = up(scored(x, weights, biases), label)
        teacher = up(
            scored(figures["teacher_features"][batch], *heads(figures, "teacher_")), label
        ).detach()
        agree(logits[..., ::8, ::8], figures["logits_sampled"], tolerance, "logits", batch)
        sampled = mib.cross_entropy_map(logits, label, old)[..., ::8, ::8]
        agree(sampled, figures["map_sampled"], tolerance, "map", batch)
        ce = mib.cross_entropy(logits, label, old)
        kd = mib.distillation(logits, teacher, label)
        agree(ce, figures["unbiased_ce"], tolerance, "ce", batch)
        agree(kd, figures["unbiased_kd"], tolerance, "kd", batch)
        (ce + 10 * kd).backward()
        agree(ce + 10 * kd, figures["total"], tolerance, "total", batch)
        agree(x.grad, figures["grad_features"], gradient_tolerance, "features", batch)
        for number, leaf in enumerate(zip(weights, biases, strict=True)):
            for name, tensor in zip(("weight", "bias"), leaf, strict=True):
                key = f"grad_cls{number}_{name}"
                agree(tensor.grad, figures[key], gradient_tolerance, key, batch)


@pytest.mark.parametrize("case", [*CASES, "plop_1", "plop_2"])
def test_how_a_step_starts(case: str) -> None:
    figures = Figures(case)
    weight, bias = figures["teacher_cls0_weight"][0], figures["teacher_cls0_bias"][0]
    new = int(figures["classes_with_background"][-1])
    found = mib.new_head(weight, bias, new)
    for ours, name in zip(found, ("new_weight", "new_bias", "background_bias"), strict=True):
        agree(ours, figures[f"init_{name}"], 1e-7, name)


def test_the_first_step_is_plain_cross_entropy() -> None:
    logits = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    label = torch.tensor([0, 1, 2, 3, 255, 0, 1, 2, 3]).view(1, 3, 3).expand(2, -1, -1).byte()
    expected = F.cross_entropy(logits, label.long(), ignore_index=255)
    agree(mib.cross_entropy(logits, label, 1, void_counts=False), expected, 1e-6)


@pytest.mark.parametrize("void_counts", [True, False])
def test_gradients_are_the_derivatives(void_counts: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 5, 2, 2, generator=generator, dtype=torch.float64).requires_grad_()
    teacher = torch.randn(2, 3, 2, 2, generator=generator, dtype=torch.float64)
    label = torch.tensor([[[0, 3], [4, 255]], [[1, 0], [0, 3]]]).byte()

    def loss(logits: Tensor) -> Tensor:
        ce = mib.cross_entropy(logits, label, 3, void_counts)
        return ce + mib.distillation(logits, teacher, label, void_counts)

    assert torch.autograd.gradcheck(loss, (logits,))


@pytest.mark.parametrize("void_counts", [True, False])
def test_ranks_together_have_the_single_process_loss(void_counts: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(4, 4, 3, 3, generator=generator, dtype=torch.float64)
    label = torch.randint(0, 4, (4, 3, 3), generator=generator).byte()
    label[0, :2] = 255
    parts = [slice(0, 1), slice(1, 4)]

    def loss(images: slice, average: object) -> Tensor:
        return mib.cross_entropy(logits[images], label[images], 3, void_counts, average)

    sent: list[list[Tensor]] = [[], []]
    for rank, part in enumerate(parts):
        loss(part, lambda t, rank=rank: sent[rank].append(t) or t)
    values = []
    for part in parts:
        means = iter([(a + b) / 2 for a, b in zip(*sent, strict=True)])
        values.append(loss(part, lambda _, means=means: next(means)))
    agree(sum(values) / 2, loss(slice(0, 4), None), 1e-12)


def test_a_batch_of_void_gives_no_loss() -> None:
    logits = torch.randn(1, 3, 2, 2).requires_grad_()
    label = torch.full((1, 2, 2), 255, dtype=torch.uint8)
    for void_counts in (True, False):
        loss = mib.cross_entropy(logits, label, 2, void_counts)
        assert float(loss.detach()) == 0
        assert torch.autograd.grad(loss, logits)[0].isfinite().all()
