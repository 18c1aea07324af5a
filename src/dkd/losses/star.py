"""STAR: old classes replayed from statistics, without images (NeurIPS 2023; TPAMI 2025).

Of every old class a model remembers the *prototype* (the mean direction of its features), how
directions and lengths deviate from their means, and how many cells it was seen in. From these,
features are drawn and shown to the new classes' heads as negatives. There is one sigmoid per class
and no background channel.

Every cell of the features ``x``, ``N x C x h x w``, has one label, that of the pixel at its centre
(:func:`at_cells`). Here is the published form, called *full*, and the journal's STAR-Basic and
STAR-Lite, with the released programs' rules of counting. Old classes are 1..K, new ones K+1..K+V.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dkd.losses.over_ranks import Average, averaged
from dkd.network.deeplab import USUAL, Reading
from dkd.network.prediction import likeliest

Counting = Literal["overlap", "disjoint", "journal"]
"""How cells of old classes in new images are counted; see :func:`counted`."""

# Of VOC, measured by the authors: the share of an old image's background that each new class
# takes, and the share of old images among those that a step shows again (section "overlap").
_BACKGROUND_LOST, _SEEN_AGAIN = 0.01, 0.5

LOGIT_THRESHOLD = 0.5
"""A class is seen where its logit exceeds this (the released program applies it to the logit)."""


# ---- cells


def at_cells(label: Tensor, size: tuple[int, int]) -> Tensor:
    """The labels at the cells' centres: ``N x H x W`` to ``N x h x w``.

    Args:
        label: numbers.
        size: h, w.
    """
    rows, columns = (
        (2 * torch.arange(cells, device=label.device) + 1) * pixels // (2 * cells)
        for pixels, cells in zip(label.shape[-2:], size, strict=True)
    )
    return label[:, rows[:, None], columns]


def seen_classes(logits: Tensor, size: tuple[int, int], reading: Reading = USUAL) -> Tensor:
    """What a model sees in training: ``N x H x W``, background 0.

    Args:
        logits: its, ``N x (1 + K) x h x w``; channel 0 takes no part.
        size: H, W.
        reading: its.
    """
    found = likeliest(logits, size, reading=reading)
    return torch.where(found.logit > LOGIT_THRESHOLD, found.channel, 0)


def shares(where: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks at full resolution brought to the features', bilinearly.

    Args:
        where: ``N x M x H x W``, bool or 0 and 1.
        size: h, w.
    """
    kind = where.dtype if where.is_floating_point() else torch.get_default_dtype()
    return F.interpolate(where.to(kind), size=size, mode="bilinear", align_corners=False)


def class_shares(label: Tensor, classes: range, size: tuple[int, int]) -> Tensor:
    """:func:`shares` of the pixels of each of some classes, one class at a time.

    Args:
        label: ``N x H x W``.
        classes: V numbers.
        size: h, w.

    Returns:
        ``N x V x h x w``.
    """
    return torch.cat([shares((label == number)[:, None], size) for number in classes], 1)


# ---- what is remembered


class Moments(NamedTuple):
    """Sums over the cells of each class, in float64; leading dimensions are kept.

    Sums of these over images are exact enough that the statistics need one pass over the images.

    Attributes:
        cells: ``... x V``, how many.
        direction: ``... x V x C``, of the features scaled to length 1.
        direction_square: ``... x V x C``, of their squares.
        norm: ``... x V``, of the features' lengths.
        norm_square: ``... x V``, of the lengths' squares.
    """

    cells: Tensor
    direction: Tensor
    direction_square: Tensor
    norm: Tensor
    norm_square: Tensor


def moments(features: Tensor, cells: Tensor, classes: range) -> Moments:
    """Each image's sums.

    Args:
        features: ``N x C x h x w``.
        cells: ``N x h x w``, numbers of classes.
        classes: of which classes.
    """
    with torch.autocast(features.device.type, enabled=False):
        x = features.detach().double().flatten(2).mT  # N x cells x C
        norm = torch.linalg.vector_norm(x, dim=2)
        unit = x / norm.clamp(min=1e-12)[:, :, None]
        numbers = torch.arange(classes.start, classes.stop, device=cells.device)
        of = (cells.flatten(1)[:, None].long() == numbers[:, None]).double()  # N x V x cells
        return Moments(
            of.sum(2),
            of @ unit,
            of @ unit.square(),
            (of @ norm[:, :, None])[:, :, 0],
            (of @ norm.square()[:, :, None])[:, :, 0],
        )


class Statistics(NamedTuple):
    """What is remembered of classes.

    Attributes:
        prototypes: ``K x C``, directions of length 1 (0 for a class without a cell).
        deviations: ``K x C``, standard deviation of the directions about the prototype.
        norms: ``K x 2``, mean and standard deviation of the features' lengths.
    """

    prototypes: Tensor
    deviations: Tensor
    norms: Tensor

    @property
    def spreads(self) -> Tensor:
        """``K``, root mean square distance of the directions from the prototype (journal's d)."""
        return self.deviations.square().sum(1).sqrt()


def statistics(sums: Moments, about: Tensor | None = None) -> Statistics:
    """The statistics of classes.

    Args:
        sums: of V classes.
        about: ``V x C``, what directions are measured about; None is the classes' own
            prototypes. (The released program takes row ``i`` of the table of *all* classes for
            the new class ``i``, which is an old class's.)
    """
    cells = sums.cells[:, None]
    prototypes = F.normalize(sums.direction, dim=1, eps=1e-12)
    centre = prototypes if about is None else about
    square = sums.direction_square - 2 * centre * sums.direction + cells * centre.square()
    mean = sums.norm / sums.cells.clamp(min=1)
    variance = (sums.norm_square - mean * sums.norm) / (sums.cells - 1).clamp(min=1)
    return Statistics(
        prototypes,
        (square.clamp(min=0) / cells.clamp(min=1)).sqrt(),
        torch.stack([mean, variance.clamp(min=0).sqrt()], 1),
    )


# ---- how much is replayed


class ReplayCounts(NamedTuple):
    """What is replayed in every batch, and the totals that the next step reads.

    Attributes:
        per_batch: for each old class, how many of its features are replayed.
        background: weight of a background cell of the new images as one of the old ones.
        totals: ``1 + K``, float64: cells of background and of the old classes, seen so far.
    """

    per_batch: tuple[int, ...]
    background: float
    totals: Tensor


def counted(
    rule: Counting, before: Tensor, seen: Tensor, batches: int, new_classes: int
) -> ReplayCounts:
    """How many features of each old class a batch replays.

    So many that, with the cells of the class in the new images' background, each is seen as
    often as at its own step.

    Args:
        rule: ``overlap`` and ``disjoint`` are the conference program's, the former with two
            figures guessed from VOC; ``journal`` has none of them and is for any data.
        before: ``1 + K``, totals of background and old classes after the previous step.
        seen: ``1 + K``, cells labelled background in which the previous model sees background or
            an old class.
        batches: of an epoch.
        new_classes: V.
    """
    before, seen = before.double(), seen.double()
    background, ratio_shift, kept = before[0], 0.0, 1.0
    classes = before[1:]
    if rule == "overlap":
        background = before[0] * (1 - _BACKGROUND_LOST * new_classes)
        ratio_shift, kept = _SEEN_AGAIN, 1 - _SEEN_AGAIN
        left = classes - seen[1:]
    else:
        left = classes
    totals = classes + seen[1:] if rule == "disjoint" else classes
    ratio = float(background / seen[0]) - ratio_shift if seen[0] > 0 else 0.0
    return ReplayCounts(
        tuple(max(0, math.trunc(number / batches)) for number in left.tolist()),
        max(0.0, ratio),
        torch.cat([(kept * seen[0] + background)[None], totals]),
    )


def guessed(seen: Tensor, often: Tensor) -> Tensor:
    """Totals for a previous model that counted nothing: :func:`counted` takes them.

    Args:
        seen: ``1 + K``, as there; the background is what it was.
        often: of every old class, how many cells.
    """
    return torch.cat([seen[:1].double(), often.double().expand(len(seen) - 1)])


# ---- what is replayed


def replayed_classes(per_batch: Sequence[int]) -> Tensor:
    """Rows of the old classes' tables, class by class, each as often as it is replayed: ``n``.

    Args:
        per_batch: of each class, how many.
    """
    return torch.arange(len(per_batch)).repeat_interleave(torch.tensor(per_batch))


def full_replay(old: Statistics, of: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Features of old classes, drawn from their statistics: ``n x C``.

    Args:
        old: statistics of the old classes.
        of: ``n``, from :func:`replayed_classes`.
        first: ``n x C``, standard normal.
        second: likewise. The length's factor is drawn for every channel, as in the program.
    """
    mean, deviation = old.norms[of, :, None].to(first).unbind(1)
    direction = old.prototypes[of].to(first) + first * old.deviations[of].to(first)
    return direction * (second * deviation + mean)


def basic_replay(
    prototypes: Tensor, spreads: Tensor, of: Tensor, first: Tensor, second: Tensor
) -> Tensor:
    """Directions of old classes about their prototypes (STAR-Basic): ``n x C``, of length 1.

    Args:
        prototypes: ``K x C``.
        spreads: ``K``, how far directions lie from them.
        of: ``n``, from :func:`replayed_classes`.
        first: ``n``, standard normal.
        second: ``n x C``, uniform in [0, 1).
    """
    centre = prototypes[of].to(second)
    chord = (first * spreads[of].to(first)).abs().clamp(max=1.999)
    angle = 2 * torch.asin(chord / 2)
    across = second - 0.5
    across = F.normalize(across - (across * centre).sum(1, keepdim=True) * centre, eps=1e-12)
    return F.normalize(centre + across * angle.tan()[:, None], eps=1e-12)


def mean_norm(features: Tensor, average: Average | None = None) -> Tensor:
    """Mean length of the features ``N x C x h x w``, a scalar without gradient."""
    norm = torch.linalg.vector_norm(features.detach(), dim=1).mean()
    return norm if average is None else average(norm)


# ---- the loss


def background_cells(prediction: Tensor, label: Tensor) -> Tensor:
    """Cells that are background both by their label and for the previous model.

    Args:
        prediction: the previous model's, ``N x h x w``, at the cells.
        label: likewise.
    """
    return (prediction == 0) & (label == 0)


def negatives(
    replayed: Tensor,
    logits: Tensor,
    cells: Tensor,
    background: float,
    average: Average | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """What the new heads are shown besides their labels: replayed features, old background.

    Args:
        replayed: ``n x V``, logits of the new heads on this rank's share of the replayed features.
        logits: ``N x V x h x w``, of the new heads on the images.
        cells: ``N x h x w``, bool, from :func:`background_cells`.
        background: weight of such a cell (:attr:`ReplayCounts.background`).
        average: averages over ranks.

    Returns:
        The sum over the classes of (weight of the replayed) x (their mean loss) plus (weight of
        background cells) x (theirs); and the two weights, scalars.
    """
    counts = logits.new_empty(3)
    counts[0], counts[1], counts[2] = cells.sum(), len(replayed), cells.numel()
    if average is not None:
        counts = average(counts)
    weight_background = background * counts[0] / counts[2]
    weight_replayed = counts[1] / counts[2]
    share = torch.where(counts > 0, 1 / counts, 0)
    fake = F.softplus(replayed).sum() * share[1]
    old_background = (F.softplus(logits) * cells[:, None]).sum() * share[0]
    return (
        weight_replayed * fake + weight_background * old_background,
        weight_replayed,
        weight_background,
    )


def mbce(
    labelled: Tensor,
    replayed: Tensor,
    logits: Tensor,
    cells: Tensor,
    background: float,
    average: Average | None = None,
) -> Tensor:
    """Binary cross-entropy of the new classes over labels, replayed features and background.

    Args:
        labelled: scalar, the mBCE of the labels at full resolution, summed over the new classes.
        replayed: as :func:`negatives` takes it, like all below.
        logits: likewise.
        cells: likewise.
        background: likewise.
        average: likewise.
    """
    added, *weights = negatives(replayed, logits, cells, background, average)
    return (labelled + added) / (1 + sum(weights))


def pkd(features: Tensor, teacher: Tensor, seen: Tensor, average: Average | None = None) -> Tensor:
    """Distillation of the features where the previous model sees an old class.

    Args:
        features: the student's, ``N x C x h x w``.
        teacher: the previous model's.
        seen: ``N x h x w``, share of each cell in which the label is background and the previous
            model sees an old class (:func:`shares`).
        average: averages over ranks.

    Returns:
        Mean square difference over these cells; 0 where there are none (NaN in the program).
    """
    total = averaged(seen.sum(), average)
    square = (seen[:, None] * (features - teacher).square()).sum() / features.shape[1]
    return square * torch.where(total > 0, 1 / total, 0)


def contrast(
    features: Tensor, labelled: Tensor, prototypes: Tensor, average: Average | None = None
) -> Tensor:
    """Keeps the new classes' directions away from the old prototypes.

    Args:
        features: the student's, ``N x C x h x w``.
        labelled: ``N x V x h x w``, share of each cell that is of a new class (:func:`shares`).
        prototypes: ``K x C``, of the old classes.
        average: averages over ranks.

    Returns:
        The mean over the new classes of 1 / the distance to the nearest old prototype. A class
        that the batch does not show counts as 1, without gradient.
    """
    unit = F.normalize(features, dim=1, eps=1e-12)
    together = averaged(torch.einsum("nvhw,nchw->vc", labelled, unit), average)
    direction = F.normalize(together, dim=1, eps=1e-12)
    prototypes = prototypes.to(direction)
    square = (direction[:, None] - prototypes).square().sum(2)
    nearest = square.masked_fill(~prototypes.any(1), math.inf).amin(1)
    # The root's derivative at 0 is infinite, and 0 times that is no number.
    return nearest.clamp(min=1e-24).rsqrt().mean()


# ---- STAR-Lite: prototypes from the heads and the new images


def prototypes_from_predictions(sums: Tensor) -> Tensor:
    """Directions of the old classes as the previous model sees them in the new images.

    Args:
        sums: ``K x C``, of the directions of the cells where it sees each class.
    """
    return F.normalize(sums, dim=1, eps=1e-12)


def prototypes_from_heads(weight: Tensor, bias: Tensor, iterations: int) -> Tensor:
    """Directions, with no negative coordinate, that each head tells from all other classes.

    Minimises the mean binary cross-entropy of ``X weight' + bias`` with the identity by AdamW,
    cutting X at 0 after each update; of all iterations the one with the lowest loss counts.

    Args:
        weight: ``K x C``, the old heads.
        bias: ``K``.
        iterations: how many; 500,000 as published.

    Returns:
        ``K x C``, of length 1.
    """
    weight, bias = weight.detach(), bias.detach()
    classes = len(weight)
    identity = torch.eye(classes, dtype=weight.dtype, device=weight.device)
    rate, (beta1, beta2), eps, decay = 2.5e-4, (0.9, 0.999), 1e-8, 0.01
    x, first, second = (torch.zeros_like(weight) for _ in range(3))
    best, lowest = x, weight.new_full((), math.inf)
    for iteration in range(1, 1 + iterations):
        logits = x @ weight.T + bias
        loss = F.binary_cross_entropy_with_logits(logits, identity)
        gradient = (logits.sigmoid() - identity) @ weight / classes**2
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient.square()
        step = first / (1 - beta1**iteration)
        step = step / ((second / (1 - beta2**iteration)).sqrt() + eps)
        x = (x * (1 - rate * decay) - rate * step).clamp(min=0)
        best, lowest = torch.where(loss < lowest, x, best), torch.minimum(loss, lowest)
    return F.normalize(best, dim=1, eps=1e-12)


def lite(from_predictions: Tensor, from_heads: Tensor) -> tuple[Tensor, Tensor]:
    """STAR-Lite's prototypes and spreads.

    Args:
        from_predictions: ``K x C``, see :func:`prototypes_from_predictions`.
        from_heads: ``K x C``, see :func:`prototypes_from_heads`.

    Returns:
        ``K x C`` and ``K``: the distance to the nearest other prototype, 0 for a lone class (for
        which the program fails).
    """
    prototypes = F.normalize(from_predictions + from_heads, dim=1, eps=1e-12)
    apart = torch.cdist(prototypes, prototypes, compute_mode="donot_use_mm_for_euclid_dist")
    apart.fill_diagonal_(math.inf)
    nearest = apart.amin(1)
    return prototypes, torch.where(nearest.isinf(), 0, nearest)
