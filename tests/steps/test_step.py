"""A step's key holds what changes its result, and nothing else."""

from pathlib import Path

import pytest

from dkd.errors import UserError
from dkd.scenario.schema import Scenario, parse
from dkd.steps import stages
from dkd.steps.step import Step, StepSpec, differences
from dkd.storage import artifacts

DIGITS = {"train": 40, "validation": 10, "size": 32}


def scenario(**changes: object) -> Scenario:
    document = {
        "name": "keys",
        "data": {"format": "digits", "digits": DIGITS},
        "task": [["zero", "one", "two"], ["three", "four"], ["five"]],
        "method": "dkd",
        "network": {"backbone": "demo", "aspp_channels": 16},
        "training": {
            "epochs": {"first": 1, "later": 1},
            "batch_size": 4,
            "crop": 32,
            "lr": {"first": 0.01, "later": 0.001},
        },
    }
    return parse({**document, **changes}, source="test")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    patch = pytest.MonkeyPatch()
    patch.setenv("DKD_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


def first_step(root: Path, given: Scenario) -> Step:
    prepared = stages.prepare(given, str(root), progress=lambda _line: None)
    return Step.open(
        StepSpec(
            scenario=given,
            task=prepared.task.steps,
            step=0,
            dataset=prepared.dataset,
            root=str(root),
        )
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"task": [["zero", "one", "two"], ["five", "three"]]},
        {"memory_size": 5},
        {"method": "finetune"},
        {"losses": {"kd": 0}},
        {"name": "other"},
        {"launch": {"processes_per_node": 2, "threads": 2}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_step_0_is_shared_by_whatever_does_not_change_it(
    root: Path, changes: dict[str, object]
) -> None:
    assert first_step(root, scenario(**changes)).checkpoint_uri == (
        first_step(root, scenario()).checkpoint_uri
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", 2),
        ("setting", "disjoint"),
        ("method", "joint"),
        ("protocol", "paper"),
        ("training.epochs.first", 2),
        ("training.lr.first", 0.02),
        ("training.batch_size", 8),
        ("training.pos_weight.first", 2.0),
        ("training.pos_weight.first", "auto"),
        ("network.aspp_channels", 24),
        ("network.aspp_dilations", [1, 2, 3]),
        ("network.aspp_dropout", 0.5),
        ("losses", {"ac": 0.5}),
        ("data.digits.seed", 2),
        ("task", [["zero", "two", "one"], ["three"]]),
    ],
)
def test_what_changes_the_result_changes_the_key(root: Path, field: str, value: object) -> None:
    changed = first_step(root, scenario().override({field: value}))
    assert changed.checkpoint_uri != first_step(root, scenario()).checkpoint_uri


def test_a_rebuilt_image_finds_every_result(root: Path) -> None:
    def on_cluster(image: str, backend: str = "trainjob", nodes: int = 1) -> Step:
        launch = {"backend": backend, "image": image, "nodes": nodes}
        return first_step(root, scenario(memory_size=5, launch=launch))

    here = first_step(root, scenario(memory_size=5))
    one, other = on_cluster("r/t@sha256:1"), on_cluster("r/t@sha256:2", "pytorchjob", 2)
    made = artifacts.publish(str(root / "x"), {"x": b"1"}, kind="test", metadata={})
    for stage in one.stages:
        assert one.uri(stage, made) == other.uri(stage, made) == here.uri(stage, made)
    assert one.saves_uri == other.saves_uri == here.saves_uri


def test_another_program_makes_every_result_anew(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def places() -> set[str]:
        given = first_step(root, scenario(memory_size=5))
        return {given.uri(stage, made) for stage in given.stages} | {given.saves_uri}

    made = artifacts.publish(str(root / "x"), {"x": b"1"}, kind="test", metadata={})
    before = places()
    monkeypatch.setattr("dkd.steps.step.PROGRAM", 99)
    assert not before & places()


def test_later_steps_settings_are_not_part_of_step_0(root: Path) -> None:
    changed = scenario(memory_size=5).override(
        {
            "training.lr.later": 0.5,
            "training.epochs.later": 7,
            "training.rates": {"new_head": 30},
            "training.memory_share": 0.5,
            "training.pos_weight.later": "auto",
        }
    )
    assert first_step(root, changed).checkpoint_uri == first_step(root, scenario()).checkpoint_uri


@pytest.mark.parametrize(("method", "own"), [("star", 8), ("dkd", 1)])
def test_a_methods_own_positive_weight_has_the_key_of_the_same_written_out(
    root: Path, method: str, own: int
) -> None:
    def later_step(weight: int | None) -> str:
        given = scenario(method=method).override({"training.pos_weight.later": weight})
        step = first_step(root, given)
        made = artifacts.Manifest("made", "checkpoint", {})
        later = step.spec.model_copy(update={"step": 1})
        return Step(later, step.dataset, teacher=made, memory=None).checkpoint_uri

    assert later_step(None) == later_step(own) != later_step(5)


def test_a_later_step_needs_its_teacher(root: Path) -> None:
    spec = first_step(root, scenario()).spec.model_copy(update={"step": 1})
    with pytest.raises(UserError, match="needs the checkpoint of step 0"):
        Step.open(spec)


def test_differences_name_the_field_and_both_values() -> None:
    before, now = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "d": 3}
    assert differences(before, now) == ["a.c: 2 before, 4 now"]


def test_a_run_name_belongs_to_one_scenario(tmp_path: Path) -> None:
    stages.claim_run(str(tmp_path), "mine", scenario())
    stages.claim_run(str(tmp_path), "mine", scenario(launch={"threads": 2}))
    with pytest.raises(UserError, match=r"run 'mine' exists .*seed: 1 before, 2 now.*--run-name"):
        stages.claim_run(str(tmp_path), "mine", scenario(seed=2))


def test_a_run_that_is_refused_at_its_start_gives_its_name_back(tmp_path: Path) -> None:
    def refused() -> None:
        raise UserError("task: unknown class")

    with (
        pytest.raises(UserError, match="unknown class"),
        stages.claimed(str(tmp_path), "mine", scenario()),
    ):
        refused()
    with stages.claimed(str(tmp_path), "mine", scenario(seed=2)):
        pass
    with (
        pytest.raises(UserError, match="unknown class"),
        stages.claimed(str(tmp_path), "mine", scenario(seed=2)),
    ):
        refused()
    with pytest.raises(UserError, match="exists with another scenario"):
        stages.claim_run(str(tmp_path), "mine", scenario())


def test_reference_pictures_show_as_many_classes_as_they_can(root: Path) -> None:
    step = first_step(root, scenario())
    wanted = {step.dataset.values[name] for name in step.task.classes}
    shown = {value for record in step.picture_records for value in record.classes}
    available = {v for record in step.dataset.validation for v in record.classes}
    assert wanted & available <= shown
