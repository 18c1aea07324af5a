"""Which images belong to which step of a task. Pure functions of the index.

Settings (what the labels of a step's images say is the label tables' matter, see
:mod:`dkd.data.labels`):

* ``overlap``: a training image belongs to step t if its mask holds any class of step t.
* ``disjoint``: and every class in its mask is of a step <= t.
* ``partitioned``: each image belongs to exactly one step (arXiv 2405.09858, "Towards Realistic
  Incremental Scenario in Class Incremental Semantic Segmentation": the data set is divided into
  one subset for each class, and a step gets the subsets of its classes). See :func:`partition`.

Validation images of step t hold a class of step t; test images hold a class seen so far.
"""

import hashlib
from collections.abc import Collection, Sequence

import numpy as np

from dkd.data.index import Dataset
from dkd.data.records import Record, Records
from dkd.errors import UserError
from dkd.scenario.schema import Setting
from dkd.scenario.tasks import Task


def training(dataset: Dataset, task: Task, setting: Setting, step: int) -> Records:
    """Training images of a step, in the order of the data set's list.

    A task may name old classes that the data set does not have (a model is extended with new
    data): they have no images here.

    Raises:
        UserError: a class of the step that the data set does not have, or that is in none of
            the step's images.
    """
    new = step_values(dataset, task, step)
    records = Records.of(dataset.train)
    match setting:
        case "overlap":
            chosen = _with_any(records, new)
        case "disjoint":
            later = dataset.classes.keys() - seen_values(dataset, task, step)
            chosen = records.take(np.flatnonzero(records.hold(new) & ~records.hold(later)))
        case "partitioned":
            owner = partition(records, seen_values(dataset, task, len(task.steps) - 1))
            own = [place for place, r in enumerate(records) if owner.get(r.id) in new]
            chosen = records.take(np.array(own, np.int64))
    for value in sorted(new - chosen.values):
        raise UserError(
            f"task.steps[{step}]: class {dataset.classes[value]!r} is in no training image of the "
            f"step ({setting}, {dataset.name}); take it out of the task or add images"
        )
    return chosen


def validation(dataset: Dataset, task: Task, step: int) -> Records:
    """Validation images that hold a class of the step."""
    return _with_any(dataset.validation, step_values(dataset, task, step))


def test(dataset: Dataset, task: Task, step: int) -> Records:
    """Validation images that hold any class of the steps 0..step."""
    return _with_any(dataset.validation, seen_values(dataset, task, step))


def partition(records: Sequence[Record], values: Collection[int]) -> dict[str, int]:
    """The one class that each image stands for, balanced over the classes.

    Images with fewest of the classes choose first (an image with one has no choice), those with
    equally many in the order of their ids' SHA-256; each goes to that of its classes which has
    fewest images so far, the lower label value in a tie. So the result depends on the images and
    on the set of classes, but not on a seed, on the order of classes or on their steps.

    Args:
        records: images of a data set.
        values: label values that are divided among; images without any of them are left out.

    Returns:
        label value by image id.
    """
    wanted = set(values)
    candidates = {r.id: sorted(wanted.intersection(r.classes)) for r in records}
    order = sorted(
        (id_ for id_, choice in candidates.items() if choice),
        key=lambda id_: (len(candidates[id_]), hashlib.sha256(id_.encode()).digest()),
    )
    sizes = dict.fromkeys(wanted, 0)
    owner: dict[str, int] = {}
    for id_ in order:
        value = min(candidates[id_], key=lambda v: (sizes[v], v))
        owner[id_] = value
        sizes[value] += 1
    return owner


def step_values(dataset: Dataset, task: Task, step: int) -> set[int]:
    """Label values of the classes that arrive at a step.

    Raises:
        UserError: the data set lacks one of them.
    """
    for name in task.steps[step]:
        if name not in dataset.values:
            some = ", ".join(list(dataset.values)[:25])
            more = f" and {len(dataset.values) - 25} more" if len(dataset.values) > 25 else ""
            raise UserError(
                f"task.steps[{step}]: class {name!r} is not in the data set {dataset.name}, "
                f"which has {some}{more}"
            )
    return {dataset.values[name] for name in task.steps[step]}


def seen_values(dataset: Dataset, task: Task, step: int) -> set[int]:
    """Label values of the classes of steps 0..step, those that the data set has."""
    return {dataset.values[name] for name in task.seen(step) if name in dataset.values}


def _with_any(records: Sequence[Record], values: set[int]) -> Records:
    every = Records.of(records)
    return every.take(np.flatnonzero(every.hold(values)))
