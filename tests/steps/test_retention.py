"""What goes with a run and what stays, on the real server and in folders."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dkd import storage
from dkd.cli import main
from dkd.errors import UserError
from dkd.steps import retention, stages
from dkd.storage import artifacts

LATER = datetime.now(UTC) + timedelta(days=2)


def make(root: str, place: str, run: str, **origins: str) -> str:
    """An artifact made by a run of others, given as ``<folder>/<key>``."""
    uri = storage.join(root, place)
    made_of = {name: {"uri": storage.join(root, at), "digest": ""} for name, at in origins.items()}
    metadata = {"run": run, **made_of}
    artifacts.publish(uri, {"x": place.encode() * 100}, kind="test", metadata=metadata)
    return uri


def claim(
    root: str,
    run: str,
    *noted: str,
    steps: int = 2,
    finished: bool = False,
    method: str = "dkd",
) -> None:
    folder = storage.join(root, "runs", run)
    scenario = {"method": method, "task": [["a"]] * steps}
    storage.write_bytes(storage.join(folder, "scenario.json"), json.dumps(scenario).encode())
    stages.note_uses(root, run, [storage.join(root, place) for place in noted])
    if finished:
        result = {"dataset": {"uri": storage.join(root, "datasets/d")}, "steps": []}
        storage.write_bytes(storage.join(folder, "result.json"), json.dumps(result).encode())


@pytest.fixture
def two_runs(root: str) -> str:
    """``one`` is finished; ``two`` found its step 0 and trains step 1, with one save so far."""
    make(root, "datasets/d", "")
    make(root, "checkpoints/c0", "one", dataset="datasets/d")
    make(root, "evaluations/e0", "one", checkpoint="checkpoints/c0")
    make(root, "memories/m0", "one", checkpoint="checkpoints/c0")
    make(root, "checkpoints/c1", "one", dataset="datasets/d", teacher="checkpoints/c0")
    make(root, "evaluations/e1", "one", checkpoint="checkpoints/c1")
    claim(root, "one", "datasets/d", "checkpoints/c0", "checkpoints/c1", finished=True)
    claim(root, "two", "datasets/d", "checkpoints/c0", "memories/m0", "checkpoints/c2", steps=3)
    storage.write_bytes(storage.join(root, "saves/c2/00000004/parts/0/state"), b"half a save")
    storage.write_bytes(storage.join(root, "checkpoints/c2/parts/0/model"), b"half a model")
    storage.write_bytes(storage.join(root, "saves/c9/00000001/manifest.json"), b"{}")
    make(root, "checkpoints/released", "")
    return root


def places(root: str) -> set[str]:
    return {retention.place_of(root, entry.uri) for entry in storage.list_objects(root)}


def test_runs_are_listed_with_state_and_what_they_share(two_runs: str) -> None:
    one, two = sorted(retention.summaries(retention.survey(two_runs)), key=lambda line: line.name)
    assert (one.state, two.state) == ("finished", "step 1 of 3")
    assert one.others == ("two",)
    shared = {"datasets/d", "checkpoints/c0", "memories/m0"}
    expected = sum(
        entry.size
        for entry in storage.list_objects(two_runs)
        if retention.place_of(two_runs, entry.uri) in shared
    )
    assert one.shared == two.shared == expected
    assert one.size > expected
    assert two.size > expected


def test_a_method_from_outside_that_learns_everything_at_once_has_one_step(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    installed = site / "outside-1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Name: outside\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[dkd.methods]\nbound = outside_bound:Bound\n")
    code = "from dkd.methods.base import Method\nclass Bound(Method):\n    joint = True\n"
    (site / "outside_bound.py").write_text(code)
    make(root, "checkpoints/c", "run")

    claim(root, "run", "checkpoints/c", method="bound")
    without = retention.survey(root)
    assert retention.state(without, without.runs["run"]) == "step 1 of 2"
    monkeypatch.syspath_prepend(str(site))
    assert retention.state(without, without.runs["run"]) == "step 1 of 1"


def test_removing_a_run_leaves_what_another_one_needs(two_runs: str) -> None:
    before = places(two_runs)
    chosen = retention.removal(retention.survey(two_runs), "one", LATER)
    assert places(two_runs) == before  # so far nothing
    retention.remove(two_runs, chosen)
    gone = {"runs/one", "checkpoints/c1", "evaluations/e0", "evaluations/e1", "saves/c9"}
    assert before - places(two_runs) == gone
    assert set(chosen.kept) == {"datasets/d", "checkpoints/c0", "memories/m0"}
    assert artifacts.find(storage.join(two_runs, "memories/m0")) is not None


def test_fresh_leftovers_are_left_to_their_writers(two_runs: str) -> None:
    now = datetime.now(UTC)
    assert retention.removal(retention.survey(two_runs), "one", now).leftovers == ()
    assert retention.removal(retention.survey(two_runs), "one", LATER).leftovers == ("saves/c9",)


def test_the_last_run_takes_everything_of_its_own_along(two_runs: str) -> None:
    for run in ("one", "two"):
        retention.remove(two_runs, retention.removal(retention.survey(two_runs), run, LATER))
    assert places(two_runs) == {"checkpoints/released"}
    assert list(storage.unfinished(two_runs)) == []


def test_an_interrupted_removal_goes_on(two_runs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = retention.removal(retention.survey(two_runs), "one", LATER)
    remove, left = artifacts.remove, [3]

    def interrupted(uri: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        remove(uri)

    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "remove", interrupted)
        with pytest.raises(KeyboardInterrupt):
            retention.remove(two_runs, chosen)
    retention.remove(two_runs, retention.removal(retention.survey(two_runs), "one", LATER))
    assert "runs/one" not in places(two_runs)
    assert "checkpoints/c1" not in places(two_runs)
    assert "checkpoints/c0" in places(two_runs)


def test_a_run_that_may_be_running_is_not_removed(two_runs: str) -> None:
    found, now = retention.survey(two_runs), datetime.now(UTC)
    with pytest.raises(UserError, match=r"run 'two': wrote something 0 minutes ago.*--stopped"):
        retention.removal(found, "two", now)
    assert "saves/c2" in retention.removal(found, "two", now, stopped=True).places


def test_nothing_goes_while_another_run_has_not_said_what_it_uses(two_runs: str) -> None:
    claim(two_runs, "three")
    with pytest.raises(UserError, match=r"run 'three': has just begun"):
        retention.removal(retention.survey(two_runs), "one", datetime.now(UTC))


def test_an_unknown_run_is_named_with_those_there_are(two_runs: str) -> None:
    with pytest.raises(UserError, match=r"no run 'four'; there are: one, two"):
        retention.removal(retention.survey(two_runs), "four", LATER)


def test_uploads_of_killed_writers_go_too(s3_root: str) -> None:
    claim(s3_root, "one", "checkpoints/c0", finished=True)
    client: Any = storage.open_store(s3_root)._client  # type: ignore[attr-defined]
    bucket, _, key = s3_root.split("://")[1].partition("/")
    for place in ("checkpoints/c0", "checkpoints/other"):
        client.create_multipart_upload(Bucket=bucket, Key=f"{key}/{place}/parts/0/model")
    found, now = retention.survey(s3_root), datetime.now(UTC)
    assert len(found.unfinished) == 2
    chosen = retention.removal(found, "one", now)
    assert [retention.place_of(s3_root, u.uri) for u in chosen.unfinished] == ["checkpoints/c0"]
    retention.remove(s3_root, retention.removal(found, "one", LATER))
    assert list(storage.unfinished(s3_root)) == []


def dkd(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def test_the_commands(two_runs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listed = dkd("runs", "--root", two_runs)
    assert listed.exit_code == 0, listed.output
    assert [line.split()[:2] for line in listed.stdout.splitlines()[1:]] == [
        ["one", "finished"],
        ["two", "step"],
    ]
    before = places(two_runs)
    shown = dkd("runs", "rm", "one", "--root", two_runs)
    assert "nothing is removed without --yes" in shown.stdout
    assert "checkpoints/c0: two" in shown.stdout
    assert places(two_runs) == before
    done = dkd("runs", "--root", two_runs, "rm", "one", "--yes")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1].startswith("removed, ")
    assert "runs/one" not in places(two_runs)
    refused = dkd("runs", "rm", "one", "--root", two_runs)
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1] == f"dkd: {two_runs}: no run 'one'; there are: two"
