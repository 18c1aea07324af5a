import gzip
import hashlib
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dkd.data import index, splits
from dkd.data.index import Dataset
from dkd.data.records import Record
from dkd.errors import UserError
from dkd.scenario.class_names import VOC_CLASSES
from dkd.scenario.data import Data
from dkd.scenario.schema import Setting
from dkd.scenario.tasks import Task

SETTINGS: tuple[Setting, ...] = get_args(Setting)
VOC_TASKS = {"19-1": [19, 1], "15-5": [15, 5], "15-1": [15] + 5 * [1]}
VOC_TASKS |= {"10-1": [10] + 10 * [1], "5-3": [5, 3, 3, 3, 3, 3]}
REFERENCE = Path(__file__).parents[1] / "reference"
GOLDEN = json.loads((REFERENCE / "split_golden.json").read_text())


def in_order(counts: list[int], classes: dict[int, str]) -> Task:
    names = iter(classes.values())
    return Task(tuple(tuple(next(names) for _ in range(count)) for count in counts))


def of_presence(presence: dict[str, dict[str, list[int]]]) -> Dataset:
    return Dataset(
        name="voc",
        format="voc",
        root="/",
        classes=VOC_CLASSES,
        palette={},
        future_is_void=False,
        splits={
            split: tuple(
                Record(id_, "", "", 1, 1, tuple(v for v in values if v not in (0, 255)), "")
                for id_, values in presence[key].items()
            )
            for split, key in (("train", "train"), ("validation", "val"))
        },
    )


@pytest.fixture(scope="module")
def voc2012() -> Dataset:
    with gzip.open(REFERENCE / "voc_class_presence.json.gz") as file:
        return of_presence(json.load(file))


@pytest.mark.parametrize("key", [key for key in GOLDEN if key.startswith("voc/")])
def test_published_list(voc2012: Dataset, key: str) -> None:
    _, setting, task_name, split, step_text = key.split("/")
    task, step = in_order(VOC_TASKS[task_name], voc2012.classes), int(step_text)
    records = {
        "train": lambda: splits.training(voc2012, task, setting, step),  # type: ignore[arg-type]
        "val": lambda: splits.validation(voc2012, task, step),
        "test": lambda: splits.test(voc2012, task, step),
    }[split]()
    ids = "\n".join(sorted(record.id for record in records))
    assert len(records) == GOLDEN[key]["count"]
    assert hashlib.sha256(ids.encode()).hexdigest() == GOLDEN[key]["sha256"]


def values_by_id(data: Data, split: str) -> dict[str, set[int]]:
    """The label values of each mask of a split, by a plain look at the files."""
    folders = {
        ("voc", "train"): "SegmentationClassAug",
        ("voc", "validation"): "SegmentationClass",
        ("ade20k", "train"): "annotations/training",
        ("ade20k", "validation"): "annotations/validation",
    }
    masks = sorted((Path(data.root) / folders[data.format, split]).iterdir())
    return {m.stem: set(np.unique(np.array(Image.open(m))).tolist()) for m in masks}


@pytest.mark.parametrize(
    ("name", "steps"),
    [("voc", [[1, 2, 3], [4], [5, 6], [7]]), ("ade20k", [[98, 99, 100], [101, 102], [103, 104]])],
)
@pytest.mark.parametrize("setting", ["overlap", "disjoint"])
def test_small_folders_against_the_masks(
    name: str, steps: list[list[int]], setting: Setting, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue(name)
    dataset = index.build(data)
    task = Task.of(steps, dataset.classes)
    train, validation = values_by_id(data, "train"), values_by_id(data, "validation")
    for step, values in enumerate(steps):
        new = set(values)
        seen = {value for earlier in steps[: step + 1] for value in earlier}
        expected = [
            id_
            for id_, held in train.items()
            if held & new and (setting == "overlap" or held <= seen | {0, 255})
        ]
        assert [r.id for r in splits.training(dataset, task, setting, step)] == expected
        expected = [id_ for id_, held in validation.items() if held & new]
        assert [r.id for r in splits.validation(dataset, task, step)] == expected
        expected = [id_ for id_, held in validation.items() if held & seen]
        assert [r.id for r in splits.test(dataset, task, step)] == expected


@pytest.mark.parametrize("task_name", VOC_TASKS)
def test_partitioned_puts_each_image_into_exactly_one_step(
    voc2012: Dataset, task_name: str
) -> None:
    task = in_order(VOC_TASKS[task_name], voc2012.classes)
    steps = [splits.training(voc2012, task, "partitioned", t) for t in range(len(task.steps))]
    counts = Counter(record.id for records in steps for record in records)
    assert set(counts.values()) == {1}
    assert counts.keys() == {r.id for r in voc2012.train if r.classes}
    for step, records in enumerate(steps):
        new = splits.step_values(voc2012, task, step)
        assert all(new & set(record.classes) for record in records)


def test_partition_is_balanced(voc2012: Dataset) -> None:
    owner = splits.partition(voc2012.train, range(1, 21))
    size = Counter(owner.values())
    images = Counter(value for r in voc2012.train for value in r.classes)
    alone = Counter(r.classes[0] for r in voc2012.train if len(r.classes) == 1)
    # No image can be handed from a larger subset to one that is smaller by two or more, unless
    # that takes a chain: among single moves the division is balanced but for a little.
    moves = sum(
        size[owner[r.id]] > size[value] + max(10, size[value] // 10)
        for r in voc2012.train
        if len(r.classes) > 1
        for value in r.classes
    )
    assert moves < 0.01 * len(owner)
    # Person is in 3,898 images, and the only class of 1,111 or fewer of those it keeps.
    assert size[15] == max(alone[15], min(size.values())) < images[15] / 3
    assert min(size[v] / images[v] for v in images) > 0.25


def test_partition_knows_neither_order_nor_steps(voc2012: Dataset) -> None:
    names = list(voc2012.classes.values())
    forwards, backwards = Task((tuple(names),)), Task(tuple((n,) for n in reversed(names)))
    whole = splits.training(voc2012, forwards, "partitioned", 0)
    parts = [splits.training(voc2012, backwards, "partitioned", t) for t in range(20)]
    assert {r.id for r in whole} == {r.id for part in parts for r in part}
    shuffled = tuple(reversed(voc2012.train))
    assert splits.partition(shuffled, range(1, 21)) == splits.partition(voc2012.train, range(1, 21))


@st.composite
def small_dataset(draw: st.DrawFn) -> tuple[Dataset, Task]:
    values = range(1, 7)
    presence = draw(
        st.lists(st.frozensets(st.sampled_from(values), max_size=4), min_size=1, max_size=30)
    )
    steps = draw(st.permutations(list(values)))
    cuts = sorted(draw(st.sets(st.integers(1, 5), max_size=4)))
    records = tuple(
        Record(str(n), "", "", 1, 1, tuple(sorted(classes)), "")
        for n, classes in enumerate(presence)
    )
    dataset = Dataset(
        "random",
        "voc",
        "/",
        {v: f"c{v}" for v in values},
        {},
        False,
        {"train": records, "validation": records},
    )
    bounds = [0, *cuts, 6]
    return dataset, Task.of([steps[a:b] for a, b in pairwise(bounds)], dataset.classes)


@given(small_dataset(), st.sampled_from(SETTINGS))
@settings(max_examples=150)
def test_settings_keep_their_promises(case: tuple[Dataset, Task], setting: Setting) -> None:
    dataset, task = case
    used: list[str] = []
    for step in range(len(task.steps)):
        new = splits.step_values(dataset, task, step)
        seen = splits.seen_values(dataset, task, step)
        try:
            records = splits.training(dataset, task, setting, step)
        except UserError:
            continue  # a class has no image, as the tests below ask for
        assert all(new & set(r.classes) for r in records)
        assert new <= {v for r in records for v in r.classes}
        if setting == "disjoint":
            assert all(set(r.classes) <= seen for r in records)
        used += [r.id for r in records]
    if setting == "partitioned":
        assert len(used) == len(set(used))


def test_a_class_without_images_is_named_with_its_step(voc: Data) -> None:
    dataset = index.build(voc)
    task = Task.of([[1, 2], [3, 19]], dataset.classes)
    with pytest.raises(UserError, match=r"task\.steps\[1\]: class 'train' is in no training image"):
        splits.training(dataset, task, "overlap", 1)


def test_disjoint_may_leave_a_class_without_images() -> None:
    dataset = of_presence({"train": {"a": [0, 1, 2]}, "val": {"b": [1]}})
    task = Task.of([[1], [2]], dataset.classes)
    with pytest.raises(UserError, match=r"task\.steps\[0\]: class 'aeroplane'.*disjoint"):
        splits.training(dataset, task, "disjoint", 0)
    assert len(splits.training(dataset, task, "disjoint", 1)) == 1


def test_old_classes_may_be_unknown_to_new_data_but_new_ones_not(voc: Data) -> None:
    dataset = index.build(voc)
    task = Task((("unicorn",), ("bird",)))
    assert splits.training(dataset, task, "overlap", 1)
    assert splits.test(dataset, task, 1) == splits.validation(dataset, task, 1)
    with pytest.raises(UserError, match=r"task\.steps\[0\]: class 'unicorn' is not in"):
        splits.training(dataset, task, "overlap", 0)
