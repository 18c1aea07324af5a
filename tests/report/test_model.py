import json
import subprocess
import sys

import pytest
import report_samples as samples
from hypothesis import given
from hypothesis import strategies as st

from dkd.errors import NewerFormat, UserError
from dkd.report import model
from dkd.report.model import Curve, RunResult, Scores


def test_json_round_trip_keeps_everything() -> None:
    run = samples.run("DKD-M")
    assert RunResult.from_json(run.to_json()) == run


def test_a_run_of_any_method_that_learned_all_classes_at_once_is_joint() -> None:
    bound = samples.scored_run("joint", [[90.0, 80.0, 70.0]])
    assert bound.is_joint
    assert bound.model_copy(update={"method": "bound of another package"}).is_joint
    assert not samples.scored_run("DKD", [[90.0, 80.0], [90.0, 80.0, 70.0]]).is_joint
    assert not samples.scored_run("DKD", [[90.0, 80.0]]).is_joint


def test_json_is_the_same_for_equal_results() -> None:
    run = samples.run("DKD-M")
    assert samples.run("DKD-M").to_json() == run.to_json()
    assert RunResult.from_json(run.to_json()).to_json() == run.to_json()


def test_json_is_plain_text_with_pictures_inside() -> None:
    run = samples.run()
    document = json.loads(run.to_json())
    assert document["steps"][0]["scores"]["iou"][0] == 91.0
    # A PNG's signature in base64.
    assert document["references"][0]["truth"].startswith("iVBORw0KGgo")


def test_channels_are_background_and_the_classes_in_the_order_of_the_task() -> None:
    run = samples.run(task=(("dog", "ant"), ("cat",)))
    assert run.channels == ("background", "dog", "ant", "cat")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colours": [[0, 0, 0]]}, "colours: 1 for background and 4 classes"),
        ({"seed": None}, "seed: "),
        ({"unheard": 1}, "unheard: "),
        ({"steps": []}, "steps: "),
    ],
)
def test_a_bad_document_is_one_line_that_names_the_field(
    change: dict[str, object], message: str
) -> None:
    document = json.loads(samples.run().to_json()) | change
    with pytest.raises(UserError) as caught:
        RunResult.from_json(json.dumps(document).encode(), source="s3://a/result.json")
    text = str(caught.value)
    assert text.startswith("s3://a/result.json: not a run's result: ")
    assert message in text
    assert "\n" not in text


def test_a_document_of_a_newer_version_is_told() -> None:
    with pytest.raises(NewerFormat, match=r"^a\.json: has format 2, .*up to format 1"):
        RunResult.from_json(b'{"format": 2, "whatever": 1}', source="a.json")


def test_no_json_is_told() -> None:
    with pytest.raises(UserError, match=r"a\.json: not a run's result"):
        RunResult.from_json(b"<html>", source="a.json")


def test_a_confusion_matrix_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="confusion: not 3 x 3"):
        model.StepResult(
            step=0, new_classes=("a", "b"), scores=Scores(iou=(1, 2, 3)), confusion=((1, 2), (3, 4))
        )


def test_more_scores_than_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="step 0 scores 3 classes, the task has 2"):
        samples.scored_run("DKD", [[1, 2, 3, 4]])


def test_steps_out_of_order_are_refused() -> None:
    run = samples.run()
    with pytest.raises(ValueError, match=r"numbered \[1, 0\]"):
        RunResult.model_validate({**dict(run), "steps": [run.steps[1], run.steps[0]]})


def test_a_score_beyond_100_percent_is_refused() -> None:
    with pytest.raises(ValueError, match="less than or equal to 100"):
        Scores(iou=(50, 101))


def test_a_curve_is_thinned_to_means_of_equal_runs() -> None:
    curve = Curve.of([1, 2, 3, 4, 5, 6], {"mbce": [1, 3, 5, 7, 9, 11]}, most=3)
    assert curve.iterations == (2, 4, 6)
    assert curve.terms == {"mbce": (2, 6, 10)}


def test_a_value_that_is_not_finite_leaves_a_gap_in_the_curve() -> None:
    curve = Curve.of([1, 2, 3], {"kd": [1.0, float("nan"), 3.0]})
    assert curve.terms == {"kd": (1.0, None, 3.0)}


def test_an_empty_curve_stays_empty() -> None:
    assert Curve.of([], {"kd": []}).iterations == ()


@given(st.lists(st.floats(0, 10), min_size=1, max_size=300), st.integers(1, 50))
def test_a_thinned_curve_ends_at_the_end_and_stays_within_its_values(
    values: list[float], most: int
) -> None:
    curve = Curve.of(list(range(1, len(values) + 1)), {"total": values}, most)
    assert len(curve.iterations) == min(most, len(values))
    assert curve.iterations[-1] == len(values)
    assert list(curve.iterations) == sorted(set(curve.iterations))
    slack = 1e-9
    for mean in curve.terms["total"]:
        assert mean is not None
        assert min(values) - slack <= mean <= max(values) + slack


def test_terms_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"terms.kd: 1 values for 2 iterations"):
        Curve(iterations=(1, 2), terms={"kd": (0.5,)})


def test_the_report_does_not_load_torch() -> None:
    code = "import sys, dkd.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
