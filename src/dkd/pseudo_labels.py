"""Old classes that a model is sure to see where a mask shows background."""

from torch import Tensor

THRESHOLD = 0.9


def pseudo_classes(logits: Tensor, label: Tensor, threshold: float = THRESHOLD) -> set[int]:
    """Channels of the classes that the model sees in an image's background.

    A background pixel counts as the likeliest foreground class if that class's probability is
    at least the threshold, as in the released program. Labelled and void pixels count as
    nothing.

    Args:
        logits: ``(1 + K) x H x W``; channel 0, the auxiliary classifier, takes no part.
        label: ``H x W`` in channel numbers, any integer type, on the same device.
        threshold: lowest probability that counts.
    """
    highest, channel = logits[1:].max(dim=0)
    sure = (label == 0) & (highest.sigmoid() >= threshold)
    return set((channel[sure].bincount().nonzero().flatten() + 1).tolist())
