"""PLOP's thresholds, labels and losses against its program's figures and against derivatives."""

import math

import pytest
import torch
from method_figures import Figures, agree, heads, scored
from torch import Tensor
from torch.nn import functional as F

from dkd.losses import plop

CASES = ["plop_1", "plop_2"]
KINDS = {torch.float64: (1e-9, 1e-9), torch.float32: (1e-6, 1e-5)}


class Case:
    def __init__(self, name: str, dtype: torch.dtype = torch.float64) -> None:
        self.figures = Figures(name, dtype)
        counts = self.figures["classes_with_background"].tolist()
        self.channels, self.new = sum(counts), counts[-1]
        self.old = self.channels - self.new

    def teacher(self, batch: int) -> Tensor:
        """Its logits at the features' size."""
        x = self.figures["teacher_features"][batch]
        return scored(x, *heads(self.figures, "teacher_")).detach()

    def up(self, logits: Tensor) -> Tensor:
        return F.interpolate(logits, self.figures["label"].shape[-2:], mode="bilinear")

    def sure(self, batch: int) -> tuple[Tensor, Tensor]:
        """The teacher's probabilities and their entropy."""
        probabilities = self.up(self.teacher(batch)).softmax(1)
        return probabilities, plop.entropy(probabilities, self.channels, as_program=True)


@pytest.mark.parametrize("name", CASES)
def test_thresholds(name: str) -> None:
    case = Case(name)
    found = torch.zeros(case.channels, plop.BINS, dtype=torch.int64)
    for batch, label in enumerate(case.figures["label"]):
        probabilities, unsure = case.sure(batch)
        found += plop.histogram(unsure, probabilities.argmax(1), label, case.channels)
    assert torch.equal(found, case.figures["histograms"])
    limits, expected = plop.thresholds(found, as_program=True), case.figures.arrays["thresholds"]
    assert limits.dtype == torch.float32
    torch.testing.assert_close(limits, torch.from_numpy(expected), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients(name: str, dtype: torch.dtype) -> None:
    case = Case(name, dtype)
    figures, (tolerance, gradient_tolerance) = case.figures, KINDS[dtype]
    limits = torch.from_numpy(figures.arrays["thresholds"])
    scale = math.sqrt(case.channels / case.new)
    factors = [scale * figures.number("hp_pod_factor")] * 5
    factors.append(scale * figures.number("hp_pod_factor_logits"))
    for batch, label in enumerate(figures["label"]):
        pseudo = plop.pseudo_labels(*case.sure(batch), label, limits)
        assert torch.equal(pseudo.label, figures["pseudo_label"][batch].long())
        agree(pseudo.factor, figures["adaptive_factor"], tolerance, "factor", batch)

        x = figures.leaf("features", batch)
        weights, biases = heads(figures)
        small = scored(x, weights, biases)
        logits = case.up(small)
        agree(logits[..., ::8, ::8], figures["logits_sampled"], tolerance, "logits", batch)
        each = plop.cross_entropy_map(logits, pseudo.label)
        agree(each[..., ::8, ::8], figures["map_sampled"], tolerance, "map", batch)
        agree(each.mean(), figures["cross_entropy_unweighted"], tolerance, "unweighted", batch)
        ce = plop.cross_entropy(logits, pseudo)
        agree(ce, figures["cross_entropy_weighted"], tolerance, "weighted", batch)

        maps = [figures.leaf(f"attention{i}", batch) for i in range(4)]
        theirs = [figures[f"teacher_attention{i}"][batch] for i in range(4)]
        ours = [*maps, x, plop.folded(small, case.old)]
        theirs += [figures["teacher_features"][batch], case.teacher(batch)]
        norms = plop.pod_norms(ours, theirs, as_program=True)
        agree(norms, figures["pod_norms"], tolerance, "norms", batch)
        pod = plop.pod(ours, theirs, factors, as_program=True)
        agree(pod, figures["pod"], tolerance, "pod", batch)
        agree(ce + pod, figures["total"], tolerance, "total", batch)
        (ce + pod).backward()
        agree(x.grad, figures["grad_features"], gradient_tolerance, "features", batch)
        for i, leaf in enumerate(maps):
            key = f"grad_attention{i}"
            agree(leaf.grad, figures[key], gradient_tolerance, key, batch)
        for number, leaves in enumerate(zip(weights, biases, strict=True)):
            for part, tensor in zip(("weight", "bias"), leaves, strict=True):
                key = f"grad_cls{number}_{part}"
                agree(tensor.grad, figures[key], gradient_tolerance, key, batch)


def test_the_corrected_threshold_is_the_median() -> None:
    generator = torch.Generator().manual_seed(1)
    unsure = torch.rand(1, 100, 100, generator=generator).pow(2)
    predicted, label = torch.ones(1, 100, 100), torch.zeros(1, 100, 100)
    counts = plop.histogram(unsure, predicted, label, channels=3)
    limits = plop.thresholds(counts, as_program=False)
    assert abs(float(limits[1]) - float(unsure.median())) < 0.5 / plop.BINS
    assert limits[0] == limits[2] == torch.tensor(plop.LOWEST_THRESHOLD)


def test_the_corrected_entropy_goes_from_0_to_1() -> None:
    even, sure = torch.full((1, 4, 1, 1), 0.25), torch.tensor([1.0, 0, 0, 0]).view(1, 4, 1, 1)
    assert float(plop.entropy(even, 6, as_program=False)) == pytest.approx(1)
    assert float(plop.entropy(sure, 6, as_program=False)) == 0


@pytest.mark.parametrize("as_program", [True, False])
@pytest.mark.parametrize("size", [(7, 9), (9, 5), (2, 2), (1, 1), (1, 6)])
def test_strips_of_any_map_are_numbers(size: tuple[int, int], as_program: bool) -> None:
    x = torch.rand(2, 3, *size)
    found = plop.strips(x, as_program)
    assert found.isfinite().all()
    height = min(size) if as_program else size[0]
    assert height == 0 or found.shape[1] >= 3 * (height + size[1]) - 3 * size[1]


def test_corrected_strips_see_every_row() -> None:
    x = torch.zeros(1, 1, 8, 4)
    x[:, :, 7] = 1
    assert not plop.strips(x, as_program=True).any()
    assert plop.strips(x, as_program=False).any()


def test_gradients_are_the_derivatives() -> None:
    generator = torch.Generator().manual_seed(1)

    def made(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    logits, feature = made(2, 5, 4, 4).requires_grad_(), made(2, 3, 4, 4).requires_grad_()
    probabilities = made(2, 3, 4, 4).softmax(1)
    unsure = plop.entropy(probabilities, 5, as_program=False)
    label = torch.randint(0, 5, (2, 4, 4), generator=generator).byte()
    pseudo = plop.pseudo_labels(probabilities, unsure, label, torch.full((5,), 0.6))
    theirs = [made(2, 3, 4, 4), made(2, 3, 4, 4)]

    def loss(logits: Tensor, feature: Tensor) -> Tensor:
        ours = [feature, plop.folded(logits, 3)]
        pod = plop.pod(ours, theirs, [0.3, 0.2], as_program=False)
        return plop.cross_entropy(logits, pseudo) + pod

    assert torch.autograd.gradcheck(loss, (logits, feature))


def test_equal_maps_pull_nowhere() -> None:
    x = torch.rand(1, 2, 4, 4).requires_grad_()
    loss = plop.pod([x], [x.detach()], [1.0], as_program=True)
    assert float(loss.detach()) == 0
    assert not torch.autograd.grad(loss, x)[0].any()
