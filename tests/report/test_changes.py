import pytest

from dkd.report.changes import gained_and_forgotten, points
from dkd.report.model import Scores

BEFORE = Scores(iou=(90, 60, 50, 40))
AFTER = Scores(iou=(91, 55.9, 30, 40, 61.2))
CLASSES = ("cow", "horse", "dog", "sheep")


def test_new_classes_are_gained_and_known_ones_stand_by_their_loss() -> None:
    changes = gained_and_forgotten(BEFORE, AFTER, CLASSES)
    assert [(c.name, c.before, c.after) for c in changes.gained] == [("sheep", None, 61.2)]
    assert [c.name for c in changes.kept] == ["horse", "cow", "dog", "background"]
    assert [c.name for c in changes.forgotten()] == ["horse", "cow"]
    assert [c.name for c in changes.improved()] == ["background"]


def test_the_mean_is_over_what_both_models_know() -> None:
    changes = gained_and_forgotten(BEFORE, AFTER, CLASSES)
    # (1 - 4.1 - 20 + 0) / 4
    assert changes.mean_difference == pytest.approx(-5.775)


def test_sentence() -> None:
    assert gained_and_forgotten(BEFORE, AFTER, CLASSES).sentence() == (
        "+ sheep 61.2; lost most: horse -20.0, cow -4.1; known classes on average -5.8"
    )


def test_sentence_when_nothing_is_lost() -> None:
    changes = gained_and_forgotten(Scores(iou=(90, 60)), Scores(iou=(90, 62, 10)), ("a", "b"))
    assert changes.sentence() == "+ b 10.0; improved: a +2.0; known classes on average +1.0"


def test_sentence_shortens_many_new_classes() -> None:
    names = tuple("abcdefghij")
    changes = gained_and_forgotten(Scores(iou=(90, 60)), Scores(iou=(90, 60, *[5] * 9)), names)
    assert changes.sentence().startswith("+ b 5.0, c 5.0, d 5.0, e 5.0, f 5.0, g 5.0 and 3 more; ")


def test_a_class_that_is_not_scored_has_no_difference_and_stands_last() -> None:
    changes = gained_and_forgotten(
        Scores(iou=(90, None, 50)), Scores(iou=(90, 20, 10)), ("cow", "dog")
    )
    assert [c.name for c in changes.kept] == ["dog", "background", "cow"]
    assert changes.mean_difference == -20
    assert [c.name for c in changes.forgotten()] == ["dog"]


def test_the_later_model_must_know_at_least_the_earlier_ones_classes() -> None:
    with pytest.raises(ValueError, match="4 channels before, 3 after"):
        gained_and_forgotten(BEFORE, Scores(iou=(1, 2, 3)), CLASSES)


@pytest.mark.parametrize(
    ("value", "text"), [(-4.06, "-4.1"), (0.04, "±0.0"), (3.0, "+3.0"), (None, "–")]
)
def test_points(value: float | None, text: str) -> None:
    assert points(value) == text
