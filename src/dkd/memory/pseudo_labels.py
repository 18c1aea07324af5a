"""Old classes that a model is sure to see where a mask shows background."""

import torch
from torch import Tensor

from dkd.network.prediction import likeliest

THRESHOLD = 0.9


def pseudo_classes(logits: Tensor, label: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """Which classes the model sees in the images' background.

    A background pixel counts as the likeliest foreground class if that class's probability is
    at least the threshold, as in the released program. Labelled and void pixels count as
    nothing.

    Args:
        logits: ``N x (1 + K) x h x w``, enlarged to the labels' size here; channel 0, the
            auxiliary classifier, takes no part.
        label: ``N x H x W`` in channel numbers, any integer type, on the same device.
        threshold: lowest probability that counts.

    Returns:
        ``N x (1 + K)``, bool, on the same device; False for channel 0.
    """
    found = likeliest(logits, (label.shape[-2], label.shape[-1]))
    sure = (label == 0) & (found.logit.sigmoid() >= threshold)
    channel = torch.where(sure, found.channel, 0).flatten(1).long()
    seen = torch.zeros(logits.shape[:2], dtype=torch.bool, device=logits.device)
    seen.scatter_(1, channel, True)
    seen[:, 0] = False
    return seen
