from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkd.data import index, labels
from dkd.data.index import Dataset
from dkd.data.records import Record
from dkd.scenario.class_names import VOC_CLASSES
from dkd.scenario.data import Data
from dkd.scenario.tasks import Task


def dataset(classes: dict[int, str], future_is_void: bool = False) -> Dataset:
    return Dataset("d", "voc", "/", classes, {}, future_is_void, {"train": (), "validation": ()})


VOC = dataset(VOC_CLASSES)


def test_training_shows_the_new_classes_alone() -> None:
    table = labels.training_table(VOC, Task.of([[1, 2], [15], [3, 4]], VOC.classes), 2)
    expected = np.zeros(65536, np.uint8)
    expected[[3, 4, 255, 65535]] = [4, 5, 255, 255]
    assert np.array_equal(table, expected)


@pytest.mark.parametrize(("future_is_void", "rest"), [(False, 0), (True, 255)])
def test_a_test_shows_what_was_seen(future_is_void: bool, rest: int) -> None:
    data = dataset({v: f"c{v}" for v in range(1, 6)}, future_is_void)
    table = labels.test_table(data, Task.of([[4], [2, 1], [3]], data.classes), 1)
    assert table[:6].tolist() == [0, 3, 2, rest, 1, rest]
    assert table[255] == 255
    assert not table[6:255].any()


def test_full_table_shows_every_class_of_the_task() -> None:
    table = labels.full_table(VOC, Task.of([[20], [1]], VOC.classes))
    assert {v: int(c) for v, c in enumerate(table) if c} == {20: 1, 1: 2, 255: 255, 65535: 255}


@given(st.permutations(range(1, 21)), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_any_class_order_maps_back_to_the_same_labels(
    order: list[int], step: int, seed: int
) -> None:
    mask = np.random.default_rng(seed).choice([*range(21), 255], (9, 11)).astype(np.uint8)
    bounds = [0, 5, 11, 12, 20]
    steps = [order[a:b] for a, b in pairwise(bounds)]
    task = Task.of(steps, VOC.classes)
    back = np.zeros(256, np.uint8)
    back[255] = 255
    for channel, value in enumerate(order, start=1):
        back[channel] = value
    trained = back[labels.training_table(VOC, task, step)[mask]]
    assert np.array_equal(trained, np.where(np.isin(mask, [*steps[step], 255]), mask, 0))
    tested = back[labels.test_table(VOC, task, step)[mask]]
    seen = [value for values in steps[: step + 1] for value in values]
    assert np.array_equal(tested, np.where(np.isin(mask, [*seen, 255]), mask, 0))


def test_tables_go_by_name_not_by_label_value() -> None:
    task = Task((("cat", "dog"), ("cow",)))
    one, other = dataset({8: "cat", 12: "dog", 10: "cow"}), dataset({3: "dog", 1: "cow", 2: "cat"})
    assert labels.test_table(one, task, 1)[[8, 12, 10]].tolist() == [1, 2, 3]
    assert labels.test_table(other, task, 1)[[2, 3, 1]].tolist() == [1, 2, 3]


def test_old_classes_that_the_data_set_lacks_have_channels_all_the_same() -> None:
    task = Task((("unicorn", "cat"), ("dog",)))
    assert labels.test_table(VOC, task, 1)[[8, 12]].tolist() == [2, 3]


@pytest.mark.parametrize(
    ("classes", "kind"), [(254, np.uint8), (255, np.int16), (32766, np.int16), (32767, np.int32)]
)
def test_channels_take_the_smallest_type_that_holds_them(classes: int, kind: type) -> None:
    """Void is the type's largest number, in the data set 255 or 65,535."""
    names = {value: f"c{value}" for value in range(1, classes + 1)}
    table = labels.full_table(dataset(names), Task((tuple(names.values()),)))
    assert table.dtype == kind
    assert table[: classes + 1].tolist() == list(range(classes + 1))
    void = np.iinfo(kind).max
    assert table[65535] == void
    assert table[255] == (void if classes == 254 else 255)


def test_a_data_set_of_few_classes_extends_a_model_of_many() -> None:
    old = tuple(f"old {n}" for n in range(300))
    table = labels.training_table(VOC, Task((old, ("cat",))), 1)
    assert {v: int(c) for v, c in enumerate(table) if c} == {8: 301, 255: 32767, 65535: 32767}


def test_keys_say_what_every_label_value_means() -> None:
    def told(classes: dict[int, str]) -> str:
        return labels.identity(labels.full_table(dataset(classes), Task((("cat", "dog"),))))

    narrow = told({1: "cat", 2: "dog"})
    assert bytes.fromhex(narrow) == bytes([0, 1, 2, *[0] * 252, 255])  # as version 0.1 had it
    wide = {told({1: "cat", value: "dog"}) for value in (2, 255, 256, 300, 65534)}
    assert len(wide) == 5


def test_covered() -> None:
    task = Task.of([[1, 2], [3], [4, 5]], VOC.classes)
    assert labels.covered(task, 1, 2).tolist() == [[False, False, True]] * 2
    assert labels.covered(task, 1, 1, all_seen=True).tolist() == [[True] * 3]
    records = [Record(str(n), "", "", 1, 1, classes, "") for n, classes in enumerate([(1, 9), ()])]
    table = labels.test_table(VOC, task, 1)
    more = labels.covered_with_labelled(labels.covered(task, 1, 2), table, records)
    assert more.tolist() == [[True, False, True], [False, False, True]]


def test_classes_of_the_real_masks(shared: Path) -> None:
    root = shared / "voc_subset"
    data = index.build(Data(format="voc", root=str(root)))
    lines = (root / "classes_per_image.txt").read_text().splitlines()
    listed = {id_: set(names.split(",")) for id_, names in (line.split() for line in lines)}
    found = {
        record.id: {data.classes[value] for value in record.classes}
        for record in (*data.train, *data.validation)
    }
    # The list names classes from about 0.5% of an image's pixels on, the index all of them.
    assert all(listed[id_] <= names for id_, names in found.items())
    assert sum(listed[id_] == names for id_, names in found.items()) > 0.9 * len(found)
