"""STAR's statistics, counts and losses against its program's figures and against derivatives."""

import pytest
import torch
from method_figures import Figures, agree, heads, scored
from torch import Tensor
from torch.nn import functional as F

from dkd.losses import star

CASES = {
    "star_1": "overlap",
    "star_2": "disjoint",
    "star_edge": "overlap",
    "star_basic_voc": "journal",
    "star_basic_ade": "overlap",
}
STEPS = [
    (case, step)
    for case, steps in {
        "star_1": 1, "star_2": 2, "star_edge": 1, "star_basic_voc": 1, "star_basic_ade": 2
    }.items()
    for step in range(1, 1 + steps)
]  # fmt: skip
KINDS = {torch.float64: (1e-9, 1e-9), torch.float32: (1e-6, 1e-5)}


class Step:
    """A step of a case, with what is known before its first batch."""

    def __init__(self, case: str, step: int, dtype: torch.dtype = torch.float64) -> None:
        self.figures, self.p, self.step = Figures(case, dtype), f"s{step}_", step
        counts = self.figures["classes"].tolist()
        self.old, self.new = sum(counts[:step]), counts[step]
        self.classes = range(1 + self.old, 1 + self.old + self.new)
        self.basic = "basic" in case
        self.rule = CASES[case]

    def __getitem__(self, name: str) -> Tensor:
        return self.figures[self.p + name]

    @property
    def size(self) -> tuple[int, int]:
        return self["features"].shape[-2:]

    def before(self, name: str) -> Tensor:
        return self.figures[f"s{self.step - 1}_{name}"]

    def cells(self, label: Tensor) -> Tensor:
        return torch.stack([star.at_cells(batch, self.size) for batch in label])

    def prediction(self) -> Tensor:
        """The previous model's, batch by batch, at full resolution."""
        found = []
        for x in self["teacher_features"]:
            logits = scored(x, *heads(self.figures, self.p + "teacher_"))
            logits = torch.cat([torch.full_like(logits[:, :1], 9), logits], 1)  # takes no part
            found.append(star.seen_classes(logits.detach(), self["label"].shape[-2:]))
        return torch.stack(found)

    def counts(self) -> star.ReplayCounts:
        return star.counted(
            self.rule, self.before("numbers"), self["pred_numbers"], len(self["label"]), self.new
        )

    def replayed(self, batch: int) -> Tensor:
        of = star.replayed_classes(self["per_iter_prev_number"].tolist())
        first, second = (self[f"draw_{name}"][batch].T for name in ("first", "second"))
        if self.basic:
            spreads = self.before("dist_noise")
            if self.rule == "journal":
                spreads = spreads.mean().expand_as(spreads)
            return star.basic_replay(self.before("prototypes"), spreads, of, first[:, 0], second)
        norms = self.before("norm_mean_and_std").T
        old = star.Statistics(self.before("prototypes"), self.before("noise"), norms)
        return star.full_replay(old, of, first, second)

    def moments(self) -> star.Moments:
        each = [
            star.moments(x, star.at_cells(label, self.size), self.classes)
            for x, label in zip(self["features"], self["label"], strict=True)
        ]
        return star.Moments(*(torch.cat(parts).sum(0) for parts in zip(*each, strict=True)))


def first_step(case: str) -> Step:
    found = Step(case, 0)
    found.classes = range(1, 1 + found.new)
    return found


@pytest.mark.parametrize(("case", "step"), STEPS)
def test_the_previous_models_prediction_and_its_counts(case: str, step: int) -> None:
    of = Step(case, step)
    prediction, label = of.prediction(), of.cells(of["label"])
    assert torch.equal(prediction, of["teacher_prediction"])
    seen = of.cells(prediction)[label == 0].bincount(minlength=1 + of.old)
    assert torch.equal(seen, of["pred_numbers"].long())
    region = star.background_cells(of.cells(prediction), label)
    assert torch.equal(region, of["region_bg"].bool())


@pytest.mark.parametrize(("case", "step"), STEPS)
def test_how_much_is_replayed(case: str, step: int) -> None:
    of = Step(case, step)
    counts = of.counts()
    assert list(counts.per_batch) == of["per_iter_prev_number"].tolist()
    agree(torch.tensor(counts.background, dtype=torch.float64), of["extra_bg_ratio"], 1e-12)
    agree(torch.cat([counts.totals, of["label_numbers"][1:]]), of["numbers"], 1e-12)


@pytest.mark.parametrize(("case", "step"), [*((case, 0) for case in CASES), *STEPS])
def test_what_is_remembered(case: str, step: int) -> None:
    of = Step(case, step) if step else first_step(case)
    sums = of.moments()
    assert sums.cells.tolist() == of["label_numbers"][1:].tolist()
    own = star.statistics(sums)
    table = torch.cat([of.before("prototypes"), own.prototypes]) if step else own.prototypes
    slipped = star.statistics(sums, about=table[: of.new])
    new = slice(of.old, None)
    agree(own.prototypes, of["prototypes"][new], 1e-9)
    name = "dist_noise" if of.basic else "noise"
    for found, suffix in ((own, "_corrected"), (slipped, "")):
        if step or not suffix:
            ours = found.spreads if of.basic else found.deviations
            agree(ours, of[name + suffix][new], 1e-9, name + suffix)
    if not of.basic:
        agree(own.norms, of["norm_mean_and_std"][:, new].T, 1e-9)


@pytest.mark.parametrize(("case", "step"), STEPS)
def test_replayed_features(case: str, step: int) -> None:
    of = Step(case, step)
    for batch in range(len(of["label"])):
        agree(of.replayed(batch).T, of["fake_features"][batch], 1e-9)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize(("case", "step"), STEPS)
def test_losses_and_gradients(case: str, step: int, dtype: torch.dtype) -> None:
    of = Step(case, step, dtype)
    loss_tolerance, gradient_tolerance = KINDS[dtype]
    counts, pos_weight = of.counts(), of.figures.number("hp_pos_weight")
    for batch, label in enumerate(of["label"]):
        x = of.figures.leaf(of.p + "features", batch)
        weights, biases = heads(of.figures, of.p)
        logits = scored(x, weights, biases)[:, of.old :]
        numbers = torch.tensor(of.classes)[:, None, None]
        here = label[:, None].long() == numbers
        labelled = F.binary_cross_entropy_with_logits(
            F.interpolate(logits, label.shape[-2:], mode="bilinear"),
            here.to(dtype),
            pos_weight=torch.full_like(numbers, pos_weight, dtype=dtype),
            reduction="none",
        ).mean((0, 2, 3))
        agree(labelled, of["mbce_label_per_class"][batch], loss_tolerance, "labelled")
        prediction = of["teacher_prediction"][batch]
        cells = star.background_cells(
            star.at_cells(prediction, of.size), star.at_cells(label, of.size)
        )
        f = of.replayed(batch)
        if of.basic:
            f = f * star.mean_norm(x)
        replayed = f @ weights[-1].T + biases[-1]
        _, of_fake, of_background = star.negatives(replayed, logits, cells, counts.background)
        agree(of_fake, of["weight_fake"][batch], loss_tolerance, "weight_fake")
        agree(of_background, of["weight_extra_bg"][batch], loss_tolerance, "weight_extra_bg")
        mbce = star.mbce(labelled.sum(), replayed, logits, cells, counts.background)
        seen = star.shares(((label == 0) & (prediction > 0))[:, None], of.size)[:, 0].to(dtype)
        pkd = star.pkd(x, of["teacher_features"][batch], seen)
        shown = star.shares(here, of.size).to(dtype)
        contrast = star.contrast(x, shown, of.before("prototypes"))
        agree(mbce, of["metric_loss_mbce"][batch], loss_tolerance, "mbce")
        agree(contrast, of["cont"][batch], loss_tolerance, "contrast")
        faulty = bool(of["pkd"][batch].isnan())
        assert faulty == (not seen.any())
        if faulty:
            assert float(pkd.detach()) == 0
        else:
            agree(pkd, of["pkd"][batch], loss_tolerance, "pkd")
        total = mbce + 5 * pkd + 0.05 * contrast
        total.backward()
        assert x.grad.isfinite().all()
        if not faulty:
            agree(total, of["metric_loss"][batch], loss_tolerance, "total")
            agree(x.grad, of["grad_features"], gradient_tolerance, "features", batch)
        for number, leaf in enumerate(zip(weights, biases, strict=True)):
            for name, tensor in zip(("weight", "bias"), leaf, strict=True):
                expected = of[f"grad_cls{number}_{name}"]
                gradient = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
                agree(gradient, expected, gradient_tolerance, f"cls{number}_{name}", batch)


@pytest.mark.parametrize("case", ["star_lite_1", "star_lite_2"])
def test_star_lite(case: str) -> None:
    figures = Figures(case)
    weights, biases = heads(figures, "teacher_")
    classes = sum(len(b) for b in biases)
    features = figures["teacher_features"].flatten(0, 1)
    size = features.shape[-2:]
    z = scored(features, weights, biases).detach()
    prediction = star.seen_classes(torch.cat([z[:, :1], z], 1), [16 * n for n in size])
    sums = star.moments(features, star.at_cells(prediction, size), range(1, 1 + classes))
    seen = star.prototypes_from_predictions(sums.direction.sum(0))
    agree(seen, figures["prototypes_from_predictions"], 1e-9)
    iterations = int(figures.number("n_iterations"))
    derived = star.prototypes_from_heads(torch.cat(weights), torch.cat(biases), iterations)
    agree(derived, figures["x_best_normalised"], 1e-9)
    prototypes, spreads = star.lite(seen, derived)
    agree(prototypes, figures["prototypes"], 1e-9)
    agree(spreads, figures["dist_noise"], 1e-9)


def test_a_lone_class_has_no_neighbour_to_keep_from() -> None:
    prototypes, spreads = star.lite(torch.eye(1, 4), torch.zeros(1, 4))
    assert torch.equal(prototypes, torch.eye(1, 4))
    assert spreads.tolist() == [0.0]


def test_gradients_are_the_derivatives() -> None:
    generator = torch.Generator().manual_seed(1)

    def made(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    x, weight, teacher = made(2, 4, 3, 2), made(2, 4), made(2, 4, 3, 2).detach()
    prototypes = F.normalize(made(3, 4).detach(), dim=1)
    f, share = made(5, 4).detach(), torch.rand(2, 2, 3, 2, generator=generator).double()
    cells = share[:, 0] > 0.4

    def loss(x: Tensor, weight: Tensor) -> Tensor:
        logits = F.conv2d(x, weight[:, :, None, None])
        total = star.mbce(logits.square().mean(), f @ weight.T, logits, cells, 1.7)
        total = total + 5 * star.pkd(x, teacher, share[:, 1])
        return total + 0.05 * star.contrast(x, share, prototypes)

    assert torch.autograd.gradcheck(loss, (x, weight))


def test_nothing_to_replay_and_no_class_in_the_batch_give_numbers() -> None:
    x = torch.rand(1, 4, 2, 2, requires_grad=True)
    none = torch.zeros(1, 2, 2, dtype=torch.bool)
    logits = x[:, :2]
    total = star.mbce(logits.sum(), x.new_zeros(0, 2), logits, none, 3.0)
    total = total + star.pkd(x, torch.zeros_like(x), none.float())
    total = total + star.contrast(x, none[:, None].float(), torch.eye(2, 4))
    total.backward()
    assert total.isfinite()
    assert x.grad.isfinite().all()
    sums = star.moments(x, torch.zeros(1, 2, 2), range(1, 3))
    own = star.statistics(star.Moments(*(part.sum(0) for part in sums)))
    assert all(not table.any() for table in own)
    counts = star.counted("journal", torch.tensor([9.0, 0.0]), torch.zeros(2), 4, 1)
    assert counts.per_batch == (0,)
    assert counts.background == 0


def test_a_class_that_no_cell_showed_repels_nothing() -> None:
    x, share = torch.tensor([[[[0.6]], [[0.8]]]]), torch.ones(1, 1, 1, 1)
    with_empty = torch.tensor([[-1.0, 0.0], [0.0, 0.0]])
    expected = star.contrast(x, share, with_empty[:1])
    assert torch.equal(star.contrast(x, share, with_empty), expected)


def test_ranks_together_have_the_single_process_loss_and_gradient() -> None:
    """Shares of 1 and 3 images: the mean of the ranks' gradients is the whole batch's."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(4, 5, 3, 3, generator=generator, dtype=torch.float64)
    weight = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    teacher, f = x + 0.1, torch.randn(7, 5, generator=generator, dtype=torch.float64)
    share = torch.rand(4, 2, 3, 3, generator=generator).double()
    prototypes = F.normalize(torch.randn(3, 5, generator=generator).double(), dim=1)
    parts = [(slice(0, 1), slice(0, 7, 2)), (slice(1, 4), slice(1, 7, 2))]

    def loss(w: Tensor, images: slice, vectors: slice, average: object) -> Tensor:
        features = x[images] * w.sum(0)[:, None, None]
        logits = F.conv2d(features, w[:, :, None, None])
        cells = share[images, 0] > 0.5
        total = star.mbce(w.new_zeros(()), f[vectors] @ w.T, logits, cells, 1.3, average)
        total = total + star.pkd(features, teacher[images], share[images, 1], average)
        return total + star.contrast(features, share[images], prototypes, average)

    sent: list[list[Tensor]] = [[], []]
    for rank, part in enumerate(parts):
        loss(weight, *part, lambda t, rank=rank: sent[rank].append(t) or t)
    values, gradients = [], []
    for part in parts:
        means = iter([(a + b) / 2 for a, b in zip(*sent, strict=True)])
        w = weight.clone().requires_grad_()
        value = loss(w, *part, lambda _, means=means: next(means))
        values.append(value.detach())
        gradients.append(torch.autograd.grad(value, w)[0])
    whole = weight.clone().requires_grad_()
    expected = loss(whole, slice(0, 4), slice(0, 7), None)
    agree(sum(values) / 2, expected, 1e-12)
    agree(sum(gradients) / 2, torch.autograd.grad(expected, whole)[0], 1e-12)


def test_low_precision_features_lose_no_statistics() -> None:
    x = torch.rand(2, 8, 3, 3).bfloat16()
    cells = torch.randint(0, 3, (2, 3, 3))
    with torch.autocast("cpu", torch.bfloat16):
        found = star.moments(x, cells, range(1, 3))
    for ours, expected in zip(found, star.moments(x.double(), cells, range(1, 3)), strict=True):
        assert torch.equal(ours, expected)
