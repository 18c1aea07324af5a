"""What a version says of a run's model."""

from pathlib import Path

import pytest
from made_results import finished

from dkd.errors import NewerFormat, UserError
from dkd.models.version import FirstClasses, ModelVersion, Promotion, of_run


def test_a_version_survives_as_json(tmp_path: Path) -> None:
    result = finished(str(tmp_path), "one", "road", "car")
    made = of_run(result, model="street", run="one", by="Ada", created="2026-01-01")
    assert ModelVersion.from_json(made.to_json(), "x") == made
    assert made.task == (("road",), ("car",))
    assert (made.memory, made.evaluation) == (result.steps[-1].chosen, result.steps[-1].evaluation)
    with pytest.raises(UserError, match=r"v\.json: not a model's document: checkpoint: "):
        ModelVersion.from_json(
            b'{"model": "x", "version": 1}'.replace(
                b"}", b', "created": "", "by": "", "run": "", "task": []}'
            ),
            "v.json",
        )
    with pytest.raises(UserError, match=r"v\.json: not a model's document: Invalid JSON"):
        ModelVersion.from_json(made.to_json()[:40], "v.json")


def test_documents_of_a_newer_version_are_told(tmp_path: Path) -> None:
    for kind in (FirstClasses, ModelVersion, Promotion):
        with pytest.raises(NewerFormat, match=r"^v\.json: has format 2, .*up to format 1"):
            kind.from_json(b'{"format": 2, "whatever": 1}', "v.json")


def test_a_joint_models_classes_are_one_step(tmp_path: Path) -> None:
    result = finished(str(tmp_path), "one", "road", "car")
    last = result.steps[-1].model_copy(update={"step": 0, "new_classes": ("road", "car")})
    joint = result.model_copy(update={"steps": (last,)})
    made = of_run(joint, model="street", run="one", by="Ada", created="2026-01-01")
    assert made.task == (("road", "car"),)


def test_a_result_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    result = finished(str(tmp_path), "one", "road")
    last = result.steps[-1].model_copy(update={"checkpoint": None})
    bare = result.model_copy(update={"steps": (last,)})
    with pytest.raises(UserError, match="run 'one': its result names no checkpoint"):
        of_run(bare, model="street", run="one", by="Ada", created="2026-01-01")
