"""BARM's losses against its program's figures and against derivatives."""

import pytest
import torch
from method_figures import Figures, agree, heads
from torch import Tensor
from torch.nn import functional as F

from dkd.losses import barm

CASES = ["barm_1", "barm_2"]
KINDS = {torch.float64: (1e-9, 1e-9), torch.float32: (1e-6, 1e-5)}


def given(figures: Figures, prefix: str, batch: int) -> tuple[list[Tensor], list[Tensor]]:
    """Each head's own map and its logits."""
    weights, biases = heads(figures, prefix)
    maps = [figures.leaf(f"{prefix}ear_features{k}", batch) for k in range(len(weights))]
    scores = [
        F.conv2d(x, w[:, :, None, None], b) for x, w, b in zip(maps, weights, biases, strict=True)
    ]
    return [*maps, *weights, *biases], scores


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients(case: str, dtype: torch.dtype) -> None:
    figures = Figures(case, dtype)
    tolerance, gradient_tolerance = KINDS[dtype]
    count = len(figures["classes"])
    old = 1 + sum(figures["classes"].tolist()[:-1])
    for batch, label in enumerate(figures["label"]):
        leaves, scores = given(figures, "", batch)
        theirs, teacher = given(figures, "teacher_", batch)
        theirs, teacher = ([t.detach() for t in some] for some in (theirs, teacher))
        agree(barm.seen(scores), figures["eval_logits_small"], tolerance, "read", batch)

        full = label.shape[-2:]
        logits = F.interpolate(barm.learned(scores), full, mode="bilinear")
        agree(logits[..., ::8, ::8], figures["logits_sampled"], tolerance, "logits", batch)
        known = F.interpolate(barm.seen(teacher), full, mode="bilinear")
        pseudo = barm.pseudo_label(known, label)
        assert torch.equal(pseudo, figures["pseudo_label"][batch].long())

        small = barm.nearest(label, scores[0].shape[-2:])
        background, labelled = small == 0, (small >= old) & (small < 255)
        residual = scores[-1][:, 0]
        terms = {
            "bce": (1.0, barm.cross_entropy(logits, pseudo)),
            "background_triplet": (
                figures.number("hp_background"),
                barm.background_triplet(residual, background),
            ),
            "feature_distillation": (
                figures.number("hp_feature"),
                barm.feature_distillation(leaves[: count - 1], theirs[: count - 1], background),
            ),
            "group_kd": (
                figures.number("hp_gkd"),
                barm.group_distillation(scores[:-1], teacher),
            ),
            "background_zero": (
                figures.number("hp_zero"),
                barm.background_zero(residual, labelled),
            ),
        }
        for name, (_, value) in terms.items():
            agree(value, figures[name], tolerance, name, batch)
        total = sum(weight * value for weight, value in terms.values())
        agree(total, figures["total"], tolerance, "total", batch)
        total.backward()
        names = [f"ear_features{k}" for k in range(count)]
        names += [f"cls{k}_{part}" for part in ("weight", "bias") for k in range(count)]
        for name, leaf in zip(names, leaves, strict=True):
            agree(leaf.grad, figures[f"grad_{name}"], gradient_tolerance, name, batch)


def test_gradients_are_the_derivatives() -> None:
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(2, 4, 2, 2, generator=generator, dtype=torch.float64).requires_grad_()
    teacher = torch.randn(2, 4, 2, 2, generator=generator, dtype=torch.float64)
    known = torch.randn(2, 2, 2, 2, generator=generator, dtype=torch.float64)
    label = torch.tensor([[[0, 4], [5, 255]], [[0, 0], [4, 4]]]).byte()

    def loss(maps: Tensor) -> Tensor:
        old, new = maps[:, :2], maps[:, 1:]
        total = barm.cross_entropy(barm.learned([known, new]), label.clamp(max=3))
        total = total + barm.background_triplet(new[:, 0], label == 0)
        total = total + barm.background_zero(new[:, 0], label >= 4)
        total = total + barm.feature_distillation([old], [teacher[:, :2]], label == 0)
        return total + barm.group_distillation([old], [teacher[:, :2]])

    assert torch.autograd.gradcheck(loss, (maps,))


def test_no_background_and_no_labels_give_numbers() -> None:
    residual = torch.randn(1, 2, 2).requires_grad_()
    none = torch.zeros(1, 2, 2, dtype=torch.bool)
    void = torch.full((1, 2, 2), 255, dtype=torch.uint8)
    total = barm.background_triplet(residual, none) + barm.background_zero(residual, none)
    total = total + barm.cross_entropy(residual[:, None].expand(-1, 3, -1, -1), void)
    assert float(total.detach()) == 0
    assert not torch.autograd.grad(total, residual)[0].any()
