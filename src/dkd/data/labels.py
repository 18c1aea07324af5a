"""Look-up tables from a mask's label values to channel numbers.

Channel 0 is background and class k of the task, counted from 1 over all steps, is channel k;
void stays 255. Tables go by class *name*, so a task may list classes in any order, and a data set
may number them in its own way.
"""

import numpy as np
import numpy.typing as npt

from dkd.data.index import BACKGROUND, VOID, Dataset
from dkd.errors import UserError
from dkd.tasks import Task

Table = npt.NDArray[np.uint8]
"""Channel number by label value, 256 entries."""


def training_table(dataset: Dataset, task: Task, step: int) -> Table:
    """What a step's own images are trained with: its new classes; everything else background."""
    first = len(task.seen(step)) - len(task.steps[step])
    return _table(dataset, task, range(first, first + len(task.steps[step])), rest=BACKGROUND)


def test_table(dataset: Dataset, task: Task, step: int) -> Table:
    """What a step is tested with: all seen classes.

    Other classes of the data set (future ones, and ones that the task never learns) become
    background, or void if ``dataset.future_is_void``.
    """
    rest = VOID if dataset.future_is_void else BACKGROUND
    return _table(dataset, task, range(len(task.seen(step))), rest)


def full_table(dataset: Dataset, task: Task) -> Table:
    """Every class of the task; everything else background."""
    return _table(dataset, task, range(len(task.classes)), rest=BACKGROUND)


def channels(dataset: Dataset, task: Task) -> dict[int, int]:
    """Channel number by label value, of the task's classes that the data set has."""
    return {
        dataset.values[name]: channel
        for channel, name in enumerate(task.classes, start=1)
        if name in dataset.values
    }


def _table(dataset: Dataset, task: Task, positions: range, rest: int) -> Table:
    if len(task.classes) >= VOID:
        raise UserError(f"task: {len(task.classes)} classes; at most {VOID - 1} fit 8-bit labels")
    table = np.zeros(256, np.uint8)
    for value in dataset.classes:
        table[value] = rest
    for value, channel in channels(dataset, task).items():
        if channel - 1 in positions:
            table[value] = channel
    table[VOID] = VOID
    return table
