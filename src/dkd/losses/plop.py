"""PLOP: learning without forgetting (CVPR 2021, arXiv 2011.11390), a softmax as MiB's.

Background pixels of which the teacher is sure get its class as a label; how sure it must be is a
threshold per class, found in one pass before the step. Besides, what the network's stages give is
kept alike by its means over strips of regions of several sizes (local POD).
``A`` counts the channels, the background's among them, ``a`` those before the step.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dkd.data.channels import void_of
from dkd.losses.over_ranks import Average, averaged

BINS = 100
LOWEST_THRESHOLD = 0.001
SCALES = (1, 2, 4)


# ---- how sure the teacher must be


def entropy(probabilities: Tensor, channels: int, as_program: bool) -> Tensor:
    """How unsure a prediction is, ``N x H x W``, from 0 to 1.

    Args:
        probabilities: the teacher's, ``N x a x H x W``.
        channels: A.
        as_program: takes the mean over channels in place of the sum and divides by the largest
            entropy twice, so that no value exceeds 1 / (a log A).
    """
    old = probabilities.shape[1]
    if as_program:
        product = -probabilities * (probabilities + 1e-8).log()
        return product.mean(1) / math.log(old + 1e-8) / math.log(channels)
    each: Tensor = torch.special.entr(probabilities)
    return each.sum(1) / math.log(max(2, old))


def histogram(unsure: Tensor, predicted: Tensor, label: Tensor, channels: int) -> Tensor:
    """How often each class is predicted with which entropy in the background: ``A x 100``, int64.

    Args:
        unsure: ``N x H x W``, from :func:`entropy`.
        predicted: ``N x H x W``, the teacher's channels.
        label: ``N x H x W``.
        channels: A.
    """
    bins = (unsure * BINS).floor().clamp(0, BINS - 1).long()
    place = (predicted.long() * BINS + bins)[label == 0]
    return place.bincount(minlength=channels * BINS).view(channels, BINS)


def thresholds(histograms: Tensor, as_program: bool) -> Tensor:
    """The median entropy of each class, ``A``, float32; at least :data:`LOWEST_THRESHOLD`.

    Args:
        histograms: ``A x 100``.
        as_program: walks to the median as the program does, which adds bins' numbers up in place
            of their counts and may end nowhere: then +inf, and the class is always accepted.
    """
    find = _median_of_program if as_program else _median
    found = [max(find(counts), LOWEST_THRESHOLD) for counts in histograms.tolist()]
    return torch.tensor(found, dtype=torch.float32, device=histograms.device)


def _median(counts: Sequence[int]) -> float:
    half, before = sum(counts) / 2, 0
    if not half:
        return LOWEST_THRESHOLD
    for number, count in enumerate(counts):
        if before + count >= half:
            return (number + (half - before) / count) / BINS
        before += count
    raise AssertionError("half of a sum is never more than the sum")


def _median_of_program(counts: Sequence[int]) -> float:
    total = sum(counts)
    if not total:
        return LOWEST_THRESHOLD
    half, run, low, count = total / 2, 0.0, 0.0, 0
    for number in range(BINS):
        low = number / BINS
        count = counts[int(low * BINS)]  # rounding makes 28 of 29
        if run <= half <= run + count:
            break
        run += low * BINS
    if count:
        return low + (half - run) / count * 0.01
    return math.copysign(math.inf, half - run) if half != run else LOWEST_THRESHOLD


# ---- labels


class PseudoLabels(NamedTuple):
    """What a batch is trained with.

    Attributes:
        label: ``N x H x W``, of the labels' type: background pixels have the teacher's class where
            it is sure, void elsewhere.
        factor: ``N``, share of each image's background in which it is sure.
    """

    label: Tensor
    factor: Tensor


def pseudo_labels(
    probabilities: Tensor, unsure: Tensor, label: Tensor, limits: Tensor
) -> PseudoLabels:
    """Labels of a batch.

    Args:
        probabilities: the teacher's, ``N x a x H x W``.
        unsure: ``N x H x W``, from :func:`entropy`.
        label: ``N x H x W``; old classes count as background.
        limits: from :func:`thresholds`.
    """
    predicted = probabilities.argmax(1)
    background = label < probabilities.shape[1]
    sure = background & (unsure < limits[predicted])
    teachers = torch.where(sure, predicted, void_of(label)).to(label.dtype)
    found = torch.where(background, teachers, label)
    of_sure, of_all = (p.sum((1, 2)).to(probabilities.dtype) for p in (sure, background))
    return PseudoLabels(found, of_sure / (of_all + 1e-6))


def cross_entropy_map(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of every pixel, ``N x H x W``, 0 at void."""
    return F.cross_entropy(logits, label.long(), ignore_index=void_of(label), reduction="none")


def cross_entropy(logits: Tensor, pseudo: PseudoLabels, average: Average | None = None) -> Tensor:
    """Cross-entropy, weighted by each image's factor: mean over all pixels, void ones counted."""
    values = pseudo.factor[:, None, None] * cross_entropy_map(logits, pseudo.label)
    count = averaged(values.new_full((), values.numel()), average)
    return values.sum() / count


# ---- local POD


def folded(logits: Tensor, old: int) -> Tensor:
    """Logits as the teacher knows them: those of the new classes added to the background's.

    Args:
        logits: ``N x A x h x w``.
        old: a.
    """
    background = logits[:, :1] + logits[:, old:].sum(1, keepdim=True)
    return torch.cat([background, logits[:, 1:old]], 1)


def strips(x: Tensor, as_program: bool) -> Tensor:
    """Means of the squares over the rows and columns of regions: ``N x`` all of them.

    Args:
        x: ``N x C x h x w``.
        as_program: takes the regions' height from the width too, so that rows are left out of
            maps that are not square. Regions that this leaves without a row count as nothing.
    """
    x = x.square()
    height, width = x.shape[-2:]
    parts = []
    for scale in SCALES:
        columns = width // scale
        rows = columns if as_program else height // scale
        for top in range(0, rows * scale, max(1, rows)):
            for left in range(0, columns * scale, max(1, columns)):
                region = x[:, :, top : top + rows, left : left + columns]
                if region.numel():
                    parts += [region.mean(3).flatten(1), region.mean(2).flatten(1)]
    return torch.cat(parts, 1)


def pod(
    students: Sequence[Tensor],
    teachers: Sequence[Tensor],
    factors: Sequence[float],
    as_program: bool,
) -> Tensor:
    """Local POD over several maps.

    Args:
        students: each ``N x C x h x w``; the logits :func:`folded`.
        teachers: likewise.
        factors: of each map. Times sqrt(A / V) in all.
        as_program: see :func:`strips`.

    Returns:
        The mean over the maps of factor x mean over images of the difference's norm.
    """
    norms = pod_norms(students, teachers, as_program)
    return (norms.mean(1) * norms.new_tensor(factors)).sum() / len(factors)


def pod_norms(students: Sequence[Tensor], teachers: Sequence[Tensor], as_program: bool) -> Tensor:
    """Norm of the difference of two maps' :func:`strips`: maps x N."""
    return torch.stack(
        [
            _norm(strips(ours, as_program) - strips(theirs, as_program))
            for ours, theirs in zip(students, teachers, strict=True)
        ]
    )


def _norm(x: Tensor) -> Tensor:
    """Norm of each row; at 0 with derivative 0."""
    square = x.square().sum(1)
    return torch.where(square > 0, square, 1).sqrt() * (square > 0)
