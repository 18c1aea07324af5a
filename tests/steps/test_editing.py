"""What a model's classes are after edits."""

from dkd.steps.editing import plan


def test_a_plan_says_what_each_class_consists_of() -> None:
    classes = [["car", "cat"], ["sofa"], ["bus", "person"]]
    merge = {"vehicle": ["bus", "car"]}
    assert plan(classes, {"person": "people"}, ["sofa"], merge) == [
        [("vehicle", ("bus", "car")), ("cat", ("cat",))],
        [("people", ("person",))],
    ]


def test_names_can_be_swapped() -> None:
    assert plan([["a", "b"]], {"a": "b", "b": "a"}, [], {}) == [[("b", ("a",)), ("a", ("b",))]]
