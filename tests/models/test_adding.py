"""A run's model, or a checkpoint, becomes a version."""

import json
from pathlib import Path

import pytest
from made_results import FAILED, finished

from dkd.errors import UserError
from dkd.models import adding, catalogue
from dkd.scenario import catalogue as scenarios
from dkd.storage import artifacts


def test_what_a_version_was_made_from(root: str) -> None:
    said = list[str]()
    first = finished(root, "one", "road", "car")
    one = adding.add_result(root, "street", "one", first, registry="", say=said.append)
    second = finished(root, "two", "road", "car", "sheep", teacher=one.checkpoint)
    two = adding.add_result(
        root, "street", "two", second, registry="", say=said.append, kubeflow_run="4c"
    )
    assert (one.extends, two.extends, two.kubeflow_run) == (None, 1, "4c")
    assert said[1] == f"model street version 2: Gate: passed, {two.checkpoint.uri}"
    catalogue.promote(root, "street", 1, by="Ada")
    start = catalogue.start_of_extension(root, "street", said.append)
    assert one.memory is not None
    assert (start.teacher, start.memory) == (one.checkpoint.uri, one.memory.uri)


def test_a_run_that_is_not_there(root: str) -> None:
    with pytest.raises(UserError, match="no finished run 'nine'; `dkd runs` lists them"):
        adding.add_run(root, "street", "nine", registry="", say=print)


def imported(place: Path, *classes: str) -> artifacts.Manifest:
    """A checkpoint as ``dkd import`` makes one, by its documents alone."""
    scenario = scenarios.scenario("voc-15-1", {"data.root": "."}).model_dump(mode="json")
    said = {"classes": [list(classes)], "dataset": {"name": "voc", "digest": ""}}
    metadata = {"run": "import", "scenario": scenario, "dataset": None, "teacher": None}
    parts = {"checkpoint.json": json.dumps(said).encode(), "model.safetensors": b"weights"}
    return artifacts.publish(str(place), parts, kind="checkpoint", metadata=metadata)


def memory_for(place: Path, *classes: str) -> artifacts.Manifest:
    parts = {"memory.json": json.dumps({"classes": [list(classes)], "exemplars": []}).encode()}
    return artifacts.publish(str(place), parts, kind="memory", metadata={})


def test_an_imported_checkpoint_becomes_a_version_that_lies_under_the_root(
    root: str, tmp_path: Path
) -> None:
    """It outlives what it was copied from; adding it again makes no other version."""
    elsewhere = imported(tmp_path / "imported", "road", "car")
    memory = memory_for(tmp_path / "kept", "road", "car")
    given = {"registry": "", "say": print}
    made = adding.add_checkpoint(root, "street", elsewhere.uri, memory.uri, **given)
    assert (made.version, made.classes, made.run, made.state) == (
        *(1, ("road", "car"), "import"),
        "nothing asked",
    )
    assert (made.dataset.name, made.scores.miou_all, made.evaluation) == ("voc", None, None)
    assert made.memory is not None
    artifacts.remove(elsewhere.uri)
    artifacts.remove(memory.uri)
    catalogue.promote(root, "street", 1, by="Ada")
    start = catalogue.start_of_extension(root, "street", print)
    checkpoint, exemplars = start.teacher, start.memory
    assert checkpoint.startswith(root.rstrip("/") + "/checkpoints/")
    assert artifacts.load(checkpoint).digest == elsewhere.digest
    assert artifacts.load(exemplars).digest == memory.digest
    again = adding.add_checkpoint(root, "street", checkpoint, exemplars, **given)
    assert again == made


@pytest.mark.parametrize(
    ("checkpoint", "memory", "told"),
    [
        ("imported", "other", r'chosen for a model that knows \[\["road"\]\]'),
        ("other", "", "other: memory; name a checkpoint"),
        ("imported", "imported", "imported: checkpoint; name a memory"),
        ("nothing", "", "nothing: no whole artifact there"),
    ],
)
def test_what_is_no_checkpoint_or_not_its_memory(
    tmp_path: Path, checkpoint: str, memory: str, told: str
) -> None:
    imported(tmp_path / "imported", "road", "car")
    memory_for(tmp_path / "other", "road")
    root = tmp_path / "root"
    given = [str(tmp_path / name) if name else "" for name in (checkpoint, memory)]
    with pytest.raises(UserError, match=told):
        adding.add_checkpoint(str(root), "street", *given, registry="", say=print)
    assert not root.exists()


def test_a_checkpoint_is_not_added_once_more_without_its_verdict(root: str) -> None:
    """Else what failed its gate would be promoted without a reason."""
    finished(root, "one", "road", gate=(FAILED,))
    failed = adding.add_run(root, "street", "one", registry="", say=print)
    with pytest.raises(UserError, match="street: version 1 has this checkpoint, as run 'one' sco"):
        adding.add_checkpoint(root, "street", failed.checkpoint.uri, registry="", say=print)
    assert catalogue.versions(root, "street") == [failed]


def test_a_checkpoint_of_another_task_is_not_even_copied(tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    finished(root, "one", "bus")
    adding.add_run(root, "street", "one", registry="", say=print)
    before = sorted(tmp_path.glob("root/checkpoints/*"))
    other = imported(tmp_path / "imported", "road", "car")
    with pytest.raises(UserError, match="model street: exists with another task"):
        adding.add_checkpoint(root, "street", other.uri, registry="", say=print)
    assert sorted(tmp_path.glob("root/checkpoints/*")) == before


def test_the_next_version_is_judged_as_this_one_was(root: str) -> None:
    """By its run's gate: the checkpoint may have been found, made by a run with another."""
    result = finished(root, "one", "road")
    configuration = "gate:\n  miou_all_at_least: 30\n  on_failure: stop\n"
    told = result.model_copy(update={"configuration": configuration})
    adding.add_result(root, "street", "one", told, registry="", say=print)
    catalogue.promote(root, "street", 1, by="Ada")
    assert catalogue.start_of_extension(root, "street", print).settings == {
        "gate.miou_all_at_least": 30,
        "gate.old_classes_may_lose_at_most": None,
        "gate.any_class_may_lose_at_most": None,
        "gate.new_classes_at_least": None,
        "gate.on_failure": "stop",
        "licence": "CC-BY-4.0",
    }
