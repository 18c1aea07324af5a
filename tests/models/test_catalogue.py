"""Versions that never change, and one that is in production: on the real store and in folders."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from made_results import FAILED, OPEN, finished

from dkd import storage
from dkd.errors import UserError
from dkd.models import adding, catalogue
from dkd.models.version import ModelVersion
from dkd.report.model import GateCheck
from dkd.steps import retention
from dkd.storage import artifacts


def added(root: str, run: str, *classes: str, **given: object) -> ModelVersion:
    finished(root, run, *classes, **given)
    return adding.add_run(root, "street", run, registry="", say=lambda _: None)


def test_versions_are_numbered_and_a_run_makes_one(root: str) -> None:
    first = added(root, "one", "road", "car")
    assert (first.version, first.extends, first.classes) == (1, None, ("road", "car"))
    again = adding.add_run(root, "street", "one", registry="", say=lambda _: None)
    assert again == first
    second = added(root, "two", "road", "car", "sheep", teacher=first.checkpoint)
    assert (second.version, second.extends) == (2, 1)
    assert catalogue.versions(root, "street") == [first, second]
    assert catalogue.names(root) == ["street"]


def test_a_first_version_that_was_not_finished_is_no_model(root: str) -> None:
    """The writer ended between the first version's classes and the version."""
    version = added(root, "one", "road")
    storage.write_bytes(storage.join(root, "models/cut/classes.json"), b"{}")
    assert catalogue.names(root) == ["street"]
    assert [catalogue.versions(root, name) for name in catalogue.names(root)] == [[version]]


def test_two_runs_that_end_at_once_get_two_numbers(root: str) -> None:
    for run in "abcd":
        finished(root, run, "road")

    def add(run: str) -> int:
        return adding.add_run(root, "street", run, registry="", say=lambda _: None).version

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(add, "abcd")) == [1, 2, 3, 4]


@pytest.mark.parametrize("classes", [("car", "road"), ("road",), ("road", "bus", "car")])
def test_a_name_that_exists_with_another_task_is_refused(
    root: str, classes: tuple[str, ...]
) -> None:
    added(root, "one", "road", "car")
    with pytest.raises(UserError, match=r"model street: exists with another task: .* road, car"):
        added(root, "other", *classes)
    assert len(catalogue.versions(root, "street")) == 1


@pytest.mark.parametrize("name", ["", "Street", "a/b", "-street", "x" * 64, "street."])
def test_bad_names(root: str, name: str) -> None:
    with pytest.raises(UserError, match="model name"):
        catalogue.require_task(root, name, ["road"])


def test_promotion_and_rollback(root: str) -> None:
    added(root, "one", "road")
    with pytest.raises(UserError, match="no version is in production; dkd models promote street 1"):
        catalogue.in_production(root, "street")
    for run in ("two", "three"):
        added(root, run, "road")
    for number in (1, 2, 3):
        catalogue.promote(root, "street", number, by="Ada")
    with pytest.raises(UserError, match="version 3 is in production already"):
        catalogue.promote(root, "street", 3, by="Ada")
    back = catalogue.roll_back(root, "street", by="Ben")
    assert (back.version, back.was, back.back, back.by) == (2, 3, True, "Ben")
    assert catalogue.roll_back(root, "street", by="Ben").version == 1
    with pytest.raises(UserError, match="nothing was in production before version 1"):
        catalogue.roll_back(root, "street", by="Ben")
    catalogue.promote(root, "street", 3, by="Ada")
    assert catalogue.roll_back(root, "street", by="Ada").version == 1
    assert catalogue.in_production(root, "street").version == 1
    assert [each.version for each in catalogue.history(root, "street")] == [1, 2, 3, 2, 1, 3, 1]


def test_of_many_who_promote_at_once_one_wins_and_the_others_are_told(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in ("one", "two", "three", "four"):
        added(root, run, "road")
    catalogue.promote(root, "street", 1, by="Ada")
    write, together = storage.write_bytes, threading.Barrier(3, timeout=60)

    def after_all_have_looked(uri: str, data: bytes, **options: bool) -> bool:
        together.wait()
        return write(uri, data, **options)

    def promote(number: int) -> str:
        try:
            return (
                f"moved to {catalogue.promote(root, 'street', number, by=f'user {number}').version}"
            )
        except UserError as error:
            return str(error)

    with monkeypatch.context() as patched, ThreadPoolExecutor(3) as pool:
        patched.setattr(storage, "write_bytes", after_all_have_looked)
        told = list(pool.map(promote, (2, 3, 4)))
    (won,) = [line for line in told if line.startswith("moved")]
    winner = catalogue.in_production(root, "street").version
    assert won == f"moved to {winner}"
    lost = [line for line in told if line != won]
    assert all(f"user {winner} has just put version {winner} into production" in x for x in lost)
    assert len(catalogue.history(root, "street")) == 2


def test_versions_are_read_side_by_side(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in ("one", "two"):
        added(root, run, "road")
    together, read = threading.Barrier(2, timeout=120), storage.read_bytes
    monkeypatch.setattr(storage, "read_bytes", lambda uri: together.wait() in (0, 1) and read(uri))
    assert [each.version for each in catalogue.versions(root, "street")] == [1, 2]


@pytest.mark.parametrize("check", [FAILED, OPEN])
def test_a_gate_that_was_not_passed_takes_a_reason(root: str, check: GateCheck) -> None:
    version = added(root, "one", "sheep", gate=(check,))
    for reason in ("", "  "):
        with pytest.raises(UserError, match=r"version 1: Gate: .*sheep .*--despite-gate REASON"):
            catalogue.promote(root, "street", 1, by="Ada", despite_gate=reason)
    assert catalogue.history(root, "street") == []
    done = catalogue.promote(root, "street", 1, by="Ada", despite_gate="sheep are rare here")
    assert (done.despite_gate, done.gate) == ("sheep are rare here", version.state)
    with pytest.raises(UserError, match="version 1 is in production already"):
        catalogue.promote(root, "street", 1, by="Ada")
    assert catalogue.history(root, "street") == [done]


def test_a_version_whose_checkpoint_is_gone_is_not_promoted(root: str) -> None:
    version = added(root, "one", "road")
    artifacts.remove(version.checkpoint.uri)
    with pytest.raises(UserError, match=f"its checkpoint is gone: {version.checkpoint.uri}"):
        catalogue.promote(root, "street", 1, by="Ada")


def test_what_a_version_needs_stays_when_its_run_is_removed(root: str) -> None:
    version = added(root, "one", "road", "car")
    catalogue.promote(root, "street", 1, by="Ada")
    added(root, "two", "road", "car")
    catalogue.remove(root, "street", 2, by="Ada")
    later = datetime.now(UTC) + timedelta(days=2)
    found = retention.survey(root)
    chosen = retention.removal(found, "one", later, stopped=True)
    held = {version.checkpoint, version.memory, version.evaluation}
    for reference in filter(None, held):
        assert chosen.kept[retention.tail(reference.uri)] == (
            "model street version 1 (in production)",
        )
    retention.remove(root, chosen)
    assert not storage.exists(storage.join(root, "runs/one/result.json"))
    catalogue.require_whole(catalogue.in_production(root, "street"))
    assert catalogue.memory_of(version) == (version.memory.uri if version.memory else "", "")


def test_a_memory_that_images_were_taken_from_is_told(root: str) -> None:
    version = added(root, "one", "road")
    assert version.memory is not None
    old = artifacts.load(version.memory.uri)
    artifacts.replace(old, {"x": b"fewer"}, metadata=old.metadata)
    uri, told = catalogue.memory_of(version)
    assert uri == version.memory.uri
    assert "images were taken out of its memory" in told
    artifacts.remove(uri)
    assert catalogue.memory_of(version)[0] == ""


def test_unknown_models_and_versions_are_named_with_those_there_are(root: str) -> None:
    with pytest.raises(UserError, match="no model 'street'; there are: none"):
        catalogue.versions(root, "street")
    added(root, "one", "road")
    with pytest.raises(UserError, match="model street: no version 7; there are: 1"):
        catalogue.promote(root, "street", 7, by="Ada")


def of_runs(root: str, *runs: str, promote: Sequence[int] = ()) -> None:
    for run in runs:
        added(root, run, "road")
    for number in promote:
        catalogue.promote(root, "street", number, by="Ada")


def test_a_removed_version_is_named_and_its_number_not_used_again(root: str) -> None:
    of_runs(root, "one", "two", promote=(1,))
    catalogue.remove(root, "street", 2, by="Ben")
    assert [each.version for each in catalogue.versions(root, "street")] == [1]
    for ask in (catalogue.version, catalogue.require_removable):
        with pytest.raises(UserError, match=r"model street: version 2 was removed, \S+ by Ben"):
            ask(root, "street", 2)
    assert added(root, "three", "road").version == 3
    assert added(root, "two", "road").version == 4  # asked for anew


def test_what_production_needs_is_not_removed(tmp_path: Path) -> None:
    """What is there, what that was made from, and what a rollback would go back to."""
    root = str(tmp_path)
    first = added(root, "one", "road", "car")
    second = added(root, "two", "road", "car", "bus", teacher=first.checkpoint)
    added(root, "three", "road", "car", "bus", "sheep", teacher=second.checkpoint)
    added(root, "four", "road", "car", "tram", teacher=first.checkpoint)
    for number in (4, 3):
        catalogue.promote(root, "street", number, by="Ada")
    for number, why in (
        (3, "version 3 is in production; promote another one before you remove it"),
        (2, "version 2 stays: version 3, in production, was made from it"),
        (1, "version 1 stays: version 3, in production, was made from it"),
        (4, "version 4 stays: a rollback of version 3 would go back to it"),
    ):
        with pytest.raises(UserError, match=f"^model street: {why}$"):
            catalogue.remove(root, "street", number, by="Ben")
    assert [each.version for each in catalogue.versions(root, "street")] == [1, 2, 3, 4]


def test_a_rollback_passes_over_what_was_removed(tmp_path: Path) -> None:
    root = str(tmp_path)
    of_runs(root, "one", "two", "three", "four", promote=(1, 2, 1, 3, 4))
    catalogue.remove(root, "street", 2, by="Ben")
    assert catalogue.roll_back(root, "street", by="Ada").version == 3
    assert catalogue.roll_back(root, "street", by="Ada").version == 1
    with pytest.raises(UserError, match="nothing was in production before version 1"):
        catalogue.roll_back(root, "street", by="Ada")
    catalogue.promote(root, "street", 3, by="Ada")
    assert catalogue.roll_back(root, "street", by="Ada").version == 1


@pytest.mark.parametrize("first", ["removal", "promotion"])
def test_a_removal_and_a_promotion_at_once(
    root: str, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Whoever looks second finds the other's mark; what is in production is there in the end."""
    of_runs(root, "one", "two", promote=(1,))
    write = storage.write_bytes
    other = {
        "removal": lambda: catalogue.remove(root, "street", 2, by="Ben"),
        "promotion": lambda: catalogue.promote(root, "street", 2, by="Ada"),
    }[first]

    def overtaken(uri: str, content: bytes, **options: bool) -> bool:
        """Just before this one leaves its mark, the other does all of its own work."""
        monkeypatch.setattr(storage, "write_bytes", write)
        other()
        return write(uri, content, **options)

    monkeypatch.setattr(storage, "write_bytes", overtaken)
    if first == "removal":
        with pytest.raises(UserError, match=r"version 2 was removed, .* by Ben"):
            catalogue.promote(root, "street", 2, by="Ada")
        assert catalogue.in_production(root, "street").version == 1
    else:
        with pytest.raises(UserError, match="version 2 is in production"):
            catalogue.remove(root, "street", 2, by="Ben")
        assert catalogue.in_production(root, "street").version == 2
        catalogue.promote(root, "street", 1, by="Ada")
    assert len(catalogue.versions(root, "street")) == (1 if first == "removal" else 2)
