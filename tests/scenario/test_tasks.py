import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkd.errors import UserError
from dkd.scenario.parsing import parse_value
from dkd.scenario.tasks import Task

PETS = {1: "cat", 2: "dog", 7: "sheep"}


def test_classes_by_name_and_value_in_any_order() -> None:
    task = Task.of([["sheep", 1], [2]], PETS)
    assert task.steps == (("sheep", "cat"), ("dog",))
    assert task.classes == ("sheep", "cat", "dog")
    assert task.counts == (2, 1)
    assert task.seen(0) == ("sheep", "cat")
    assert task.upto(0) == Task((("sheep", "cat"),))
    assert task.joint() == Task((("sheep", "cat", "dog"),))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "task.steps: the task has no step"),
        ([[1], []], r"task.steps\[1\]: no class"),
        ([[1], [2, "cat"]], r"task.steps\[1\]: class 'cat' is already in step 0"),
        ([["cat", "cat"]], r"task.steps\[0\]: class 'cat' is already in step 0"),
        ([[3]], r"task.steps\[0\]: unknown class 3; the data set has 1 cat, 2 dog, 7 sheep"),
        ([[1], ["cow"]], r"task.steps\[1\]: unknown class 'cow'"),
        ([[0]], r"unknown class 0"),
        ([["Dog"]], r"unknown class 'Dog'; did you mean 'dog'\? the data set has"),
    ],
)
def test_bad_tasks_are_one_line(steps: list[list[int | str]], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        Task.of(steps, PETS)
    assert "\n" not in str(raised.value)


def test_the_word_on_is_a_class() -> None:
    """To YAML 1.1 it is true, which is 1, which is the lamp."""
    steps = parse_value("[[dog], [on]]", "task")
    assert Task.of(steps, {1: "lamp", 2: "dog", 3: "on"}).steps == (("dog",), ("on",))


def test_names_compare_in_nfc() -> None:
    task = Task.of([["cafe\u0301"], [" dog "]], {1: "caf\u00e9", 2: "dog"})
    assert task.steps == (("caf\u00e9",), ("dog",))


def test_names_that_look_alike_are_not_two_classes() -> None:
    """A model knows one of them; the other is in new data."""
    with pytest.raises(UserError, match="class 'Dog' is already in step 0, as 'dog', which looks"):
        Task((("dog",), ("Dog",)))


def test_long_lists_of_classes_are_cut() -> None:
    with pytest.raises(UserError, match=r"and 125 more$"):
        Task.of([["x"]], {value: f"class {value}" for value in range(1, 151)})


@given(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=5), min_size=1, max_size=6))
def test_parts_of_a_task_fit_together(values: list[list[int]]) -> None:
    names = {value: f"n{value}" for value in range(1, 100)}
    flat = [value for items in values for value in items]
    if len(set(flat)) < len(flat):
        with pytest.raises(UserError, match="is already in step"):
            Task.of(values, names)
        return
    task = Task.of(values, names)
    assert task.classes == tuple(names[value] for value in flat)
    for step in range(len(values)):
        assert (
            task.upto(step).classes
            == task.seen(step)
            == task.classes[: sum(task.counts[: step + 1])]
        )
    assert task.joint().counts == (len(flat),)
