"""Look-up tables from a mask's label values to channel numbers.

Channel 0 is background and class k of the task, counted from 1 over all steps, is channel k;
void stays void. Tables go by class *name*, so a task may list classes in any order, and a data set
may number them in its own way.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dkd.data.channels import Channels, type_for, void_of
from dkd.data.index import Dataset
from dkd.data.records import Record
from dkd.scenario.tasks import WIDE_VOID, Task

Table = Channels
"""Channel number by label value, 65,536 entries: masks of 8 bits look up the first 256."""

Covered = npt.NDArray[np.bool_]
"""Which foreground channels an image's labels tell about: images x channels (k - 1 for k)."""


def training_table(dataset: Dataset, task: Task, step: int) -> Table:
    """What a step's own images are trained with: its new classes; everything else background."""
    count = len(task.seen(step))
    return _table(dataset, task, range(count - len(task.steps[step]), count))


def test_table(dataset: Dataset, task: Task, step: int) -> Table:
    """What a step is tested with: all seen classes.

    Other classes of the data set (future ones, and ones that the task never learns) become
    background, or void if ``dataset.future_is_void``.
    """
    return _table(dataset, task, range(len(task.seen(step))), dataset.future_is_void)


def full_table(dataset: Dataset, task: Task) -> Table:
    """Every class of the task; everything else background."""
    return _table(dataset, task, range(len(task.classes)))


def channels(dataset: Dataset, task: Task) -> dict[int, int]:
    """Channel number by label value, of the task's classes that the data set has."""
    return {
        dataset.values[name]: channel
        for channel, name in enumerate(task.classes, start=1)
        if name in dataset.values
    }


def covered(task: Task, step: int, images: int, all_seen: bool = False) -> Covered:
    """What the labels of a step's own images cover: its new classes.

    Args:
        task: the task.
        step: which step.
        images: number of rows.
        all_seen: cover the old classes too (they are background in these labels).
    """
    count = len(task.seen(step))
    row = np.arange(count) >= (0 if all_seen else count - len(task.steps[step]))
    return np.tile(row, (images, 1))


def covered_with_labelled(covered: Covered, table: Table, records: Sequence[Record]) -> Covered:
    """What is covered, and each image's own labelled classes besides.

    For exemplars that keep their labels: an old class that is labelled in an exemplar is
    learned from it.

    Args:
        covered: one row per record.
        table: the table that the images are loaded with.
        records: the images.
    """
    result = covered.copy()
    for row, record in enumerate(records):
        channels = table[list(record.classes)]
        labelled = (channels > 0) & (channels < void_of(table))
        result[row, channels[labelled].astype(int) - 1] = True
    return result


def empty_table(classes: int) -> Table:
    """A table for channels of so many classes in which all is background, void of 16 bits void."""
    table = np.zeros(WIDE_VOID + 1, type_for(classes))
    table[WIDE_VOID] = void_of(table)
    return table


def identity(table: Table) -> str:
    """What a result's key says of a table.

    The entries of 8-bit masks in hexadecimal, as ever, where no other value means anything; else a
    digest of all.
    """
    if table.dtype == np.uint8 and not table[256:WIDE_VOID].any():
        return table[:256].tobytes().hex()
    return hashlib.sha256(table.astype("<i4").tobytes()).hexdigest()


def _table(dataset: Dataset, task: Task, positions: range, others_are_void: bool = False) -> Table:
    table = empty_table(positions.stop)
    void = void_of(table)
    if others_are_void:
        table[list(dataset.classes)] = void
    for value, channel in channels(dataset, task).items():
        if channel - 1 in positions:
            table[value] = channel
    table[[*dataset.void_values, dataset.void]] = void
    return table
