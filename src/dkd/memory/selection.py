"""Which images the exemplar memory keeps. Pure: no image, no model, no torch."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Candidate:
    """An image that may be kept.

    Attributes:
        id: unique among the candidates.
        classes: channel numbers of the classes it holds, labelled or seen by the model.
    """

    id: str
    classes: frozenset[int]


def choose(
    candidates: Sequence[Candidate], old_classes: Sequence[int], size: int, seed: int
) -> list[int]:
    """The memory's images: a balanced round over the old classes (DKD-M).

    Candidates and classes are shuffled; then each class in turn takes the first unused
    candidate that holds it, until the memory is full or no candidate left holds an old class.
    The choice depends on the candidates' ids and classes, not on their order.

    Args:
        candidates: all there are.
        old_classes: channel numbers of the classes to keep.
        size: most images to keep.
        seed: of the shuffle.

    Returns:
        Indices into ``candidates``, in the order of choice; fewer than ``size`` only if the
        candidates ran out.
    """
    random = np.random.default_rng(seed)
    by_id = sorted(range(len(candidates)), key=lambda index: candidates[index].id)
    coming = iter(random.permutation(len(by_id)))
    classes = sorted(old_classes)
    waiting: dict[int, deque[int]] = {
        classes[place]: deque() for place in random.permutation(len(classes))
    }
    chosen: dict[int, None] = {}

    def first_unused(wanted: int) -> int | None:
        # Only as many candidates are looked at as are needed: most memories are small.
        while True:
            while waiting[wanted]:
                if (index := waiting[wanted].popleft()) not in chosen:
                    return index
            if (place := next(coming, None)) is None:
                return None
            for held in candidates[by_id[place]].classes & waiting.keys():
                waiting[held].append(by_id[place])

    while len(chosen) < size:
        before = len(chosen)
        for wanted in waiting:
            if len(chosen) < size and (index := first_unused(wanted)) is not None:
                chosen[index] = None
        if len(chosen) == before:
            break
    return list(chosen)
