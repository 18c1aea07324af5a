"""From logits to classes.

What a model's logits say is read in one way everywhere: one sigmoid per class, background where
none exceeds one half. :meth:`dkd.network.deeplab.SegmentationModel.logits` gives them so that this
is right for networks with a background channel too.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from dkd.data.channels import predicted_type
from dkd.network.deeplab import USUAL, Reading, SegmentationModel, upsample

LOGITS_BYTES = 1 << 28
"""Most bytes of logits at full resolution at a time: classes of a large image go in turns."""


class Likeliest(NamedTuple):
    """Each pixel's likeliest foreground class, whether it is likely or not.

    Attributes:
        logit: ``N x H x W``, its logit.
        channel: ``N x H x W``, its number: its channel's where each class has one; uint8, or int32
            (:func:`dkd.data.channels.predicted_type`).
    """

    logit: Tensor
    channel: Tensor


def likeliest(
    logits: Tensor,
    size: tuple[int, int] | None = None,
    most_bytes: int = LOGITS_BYTES,
    reading: Reading = USUAL,
) -> Likeliest:
    """The likeliest foreground class of every pixel.

    The classes' logits are enlarged a few at a time, so that a large photograph with many
    classes needs no gigabytes. Of equal logits the lowest channel's counts.

    Args:
        logits: ``N x (1 + K) x h x w``; channel 0, the auxiliary classifier, takes no part.
        size: H, W to enlarge them to; their own if None.
        most_bytes: of enlarged logits at a time.
        reading: the model's.
    """
    height, width = size or (logits.shape[-2], logits.shape[-1])
    plane = len(logits) * height * width * logits.element_size()
    return in_turns(logits, size, max(1, most_bytes // plane), reading)


def in_turns(
    logits: Tensor, size: tuple[int, int] | None, classes: int, reading: Reading = USUAL
) -> Likeliest:
    """As :func:`likeliest`, with so many classes at a time: nothing here depends on a size."""
    height, width = size or (logits.shape[-2], logits.shape[-1])
    logit = logits.new_full((logits.shape[0], height, width), -torch.inf)
    kind = getattr(torch, predicted_type(max(logits.shape[1] - 1, *reading.classes, 0)).name)
    channel = torch.zeros(logit.shape, dtype=kind, device=logits.device)
    for first in range(1, logits.shape[1], classes):
        part = logits[:, first : first + classes]
        highest, place = (part if size is None else upsample(part, size, reading)).max(dim=1)
        higher = highest > logit
        logit = torch.where(higher, highest, logit)
        channel = torch.where(higher, (place + first).to(kind), channel)
    if reading.classes:
        table = torch.tensor(reading.classes, dtype=kind, device=channel.device)
        channel = table[channel.long()]
    return Likeliest(logit, channel)


def predict_rows(
    logits: Tensor, size: tuple[int, int], rows: range, reading: Reading = USUAL
) -> Tensor:
    """Some rows of what :func:`predict` gives, ``N x rows x W``, without the memory of the others.

    Each row of enlarged logits mixes two of their rows, which are widened before. Weights and
    order of sums are those of PyTorch's own function on a CPU, whose masks are the same; elsewhere
    another rounding may let a tie fall to another class.

    Args:
        logits: ``N x (1 + K) x h x w``.
        size: H, W to enlarge them to.
        rows: which, ascending.
        reading: the model's.
    """
    h = logits.shape[-2]
    unit = torch.eye(h, dtype=torch.float32, device=logits.device)
    weights = upsample(unit[None, :, :, None], (size[0], 1), reading)[0, :, rows.start : rows.stop]
    weights = weights[..., 0].T  # rows x h
    upper = (weights > 0).int().argmax(1)  # the first of at most two
    lower = (upper + 1).clamp(max=h - 1)
    of_upper, of_lower = weights.gather(1, upper[:, None]), weights.gather(1, lower[:, None])
    of_lower[lower == upper] = 0
    best = logits.new_full((len(logits), len(rows), size[1]), -torch.inf, dtype=weights.dtype)
    first, last = int(upper.min()), int(lower.max()) + 1
    kind = getattr(torch, predicted_type(max(logits.shape[1] - 1, *reading.classes, 0)).name)
    channel = torch.zeros(best.shape, dtype=kind, device=logits.device)
    for number in range(1, logits.shape[1]):
        part = logits[:, number : number + 1, first:last]
        wide = upsample(part, (last - first, size[1]), reading)
        below = wide[:, 0, lower - first] * of_lower
        mixed = torch.addcmul(below, wide[:, 0, upper - first], of_upper)
        higher = mixed > best
        best = torch.where(higher, mixed, best)
        channel = torch.where(higher, number, channel)
    if reading.classes:
        channel = torch.tensor(reading.classes, dtype=kind, device=channel.device)[channel.long()]
    return read(Likeliest(best, channel))


def by_class(values: Tensor, reading: Reading) -> Tensor:
    """The largest of each class's channels: ``N x (1 + C) x ...`` to ``N x (1 + K) x ...``."""
    if not reading.classes:
        return values
    numbers = torch.tensor(reading.classes, device=values.device)
    count = reading.classes[-1] + 1
    index = numbers.view(1, -1, *[1] * (values.dim() - 2)).expand_as(values)
    largest = values.new_full((len(values), count, *values.shape[2:]), -torch.inf)
    return largest.scatter_reduce(1, index, values, "amax")


def predict(
    logits: Tensor,
    size: tuple[int, int] | None = None,
    most_bytes: int = LOGITS_BYTES,
    reading: Reading = USUAL,
) -> Tensor:
    """Logits ``N x (1 + K) x h x w`` to channel numbers ``N x H x W``.

    The likeliest foreground class where its probability exceeds 0.5, else background (0).
    Classes whose probabilities both round to 1 are told apart by their logits. Arguments as
    :func:`likeliest` takes them.
    """
    return read(likeliest(logits, size, most_bytes, reading))


def read(found: Likeliest) -> Tensor:
    """Channel numbers ``N x H x W``: the likeliest class where it is likely, else 0."""
    return torch.where(found.logit.sigmoid() > 0.5, found.channel, 0)


@torch.inference_mode()
def segment(
    model: SegmentationModel,
    images: Tensor,
    size: tuple[int, int],
    most_bytes: int = LOGITS_BYTES,
) -> Tensor:
    """Normalised images ``N x 3 x h x w`` to predicted channels ``N x H x W`` at ``size``.

    Args:
        model: in eval mode, on the images' device.
        images: likewise.
        size: H, W of the result.
        most_bytes: of enlarged logits at a time.
    """
    features = model.features(images)
    logits = model.logits(features)
    return predict(logits, size, most_bytes, model.reading)
