"""Why a step was trained anew, from what runs leave under a root."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dkd import storage
from dkd.cli import main
from dkd.errors import UserError
from dkd.steps import explanation, retention, stages
from dkd.steps.step import place as place_for
from dkd.storage import artifacts


def key(step: int = 0, **changes: Any) -> dict[str, Any]:
    classes = [["a"], ["b"], ["c"]][: step + 1]
    training = {"epochs": 30, "lr": {"first": 0.1}}
    return {"format": 2, "classes": classes, "seed": 1, "training": training} | changes


def trained(root: str, run: str, identity: dict[str, Any]) -> str:
    """A checkpoint of this identity, trained by a run that noted it before."""
    uri = place_for(root, "checkpoints", identity)
    stages.note_uses(root, run, [uri], identity)
    document = json.dumps({"identity": identity}).encode()
    artifacts.publish(uri, {"checkpoint.json": document}, kind="checkpoint", metadata={"run": run})
    return retention.tail(uri)


def explained(root: str, run: str) -> list[explanation.Explanation]:
    return explanation.explain(retention.survey(root), run)


def test_the_nearest_result_and_its_fields_are_named(root: str) -> None:
    trained(root, "far", key(seed=3, training={"epochs": 2, "lr": {"first": 0.5}}))
    near = trained(root, "near", key(format=1, seed=2))
    trained(root, "later", key(1, seed=2))  # another step
    mine = trained(root, "mine", key(seed=2))
    (only,) = explained(root, "mine")
    assert (only.step, only.place, only.run) == (0, mine, "mine")
    assert only.nearest == explanation.Nearest(near, "near", ("format: 1 before, 2 now",))


def test_a_step_that_was_found_needs_no_reason(root: str) -> None:
    trained(root, "other", key(seed=9))
    first = trained(root, "one", key())
    stages.note_uses(root, "two", [storage.join(root, first)], key())
    (only,) = explained(root, "two")
    assert (only.run, only.nearest) == ("one", None)


def test_a_step_that_is_not_trained_yet_is_explained_by_the_runs_note(root: str) -> None:
    trained(root, "one", key())
    trained(root, "one", key(1))
    stages.note_uses(
        root, "two", [storage.join(root, retention.tail("checkpoints/x"))], key(1, seed=2)
    )
    (only,) = explained(root, "two")
    assert (only.step, only.run) == (1, "")
    assert only.nearest is not None
    assert only.nearest.differs == ("seed: 1 before, 2 now",)


def test_imported_models_are_no_results_of_a_key(root: str) -> None:
    document = json.dumps({"identity": {"kind": "imported", "source": "0"}}).encode()
    uri = storage.join(root, "checkpoints/released")
    artifacts.publish(
        uri, {"checkpoint.json": document}, kind="checkpoint", metadata={"run": "one"}
    )
    trained(root, "one", key())
    (only,) = explained(root, "one")
    assert only.nearest is None


def test_an_unknown_run_is_told(root: str) -> None:
    with pytest.raises(UserError, match="no run 'nobody'; there are: none"):
        explained(root, "nobody")


def test_the_command_says_it_line_by_line(tmp_path: Path) -> None:
    root = str(tmp_path)
    near = trained(root, "near", key(seed=2))
    mine = trained(root, "mine", key())
    done = CliRunner().invoke(main, ["runs", "--root", root, "why", "mine"])
    assert done.exit_code == 0, done.output
    first, *rest = done.output.splitlines()
    assert first.startswith(f"step 0  {mine}  trained 20")
    assert rest == [f"  nearest: {near} of run near, but for", "    seed: 2 before, 1 now"]
