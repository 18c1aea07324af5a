"""What goes with a run and what stays, on the real server and in folders."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fixtures.two_runs import claim, make, places

from dkd import storage
from dkd.errors import UserError
from dkd.steps import retention
from dkd.storage import artifacts

LATER = datetime.now(UTC) + timedelta(days=2)


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


@pytest.mark.parametrize(
    "name", ["runs/one/scenario.json", "runs/one/result.json", "models/m/versions/000001.json"]
)
@pytest.mark.parametrize("content", [b'{"task": [["c', b"[]"])
def test_a_damaged_document_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    storage.write_bytes(storage.join(str(tmp_path), name), content)
    with pytest.raises(UserError, match=rf"{name}: not a JSON object; restore it"):
        retention.survey(str(tmp_path))


def test_what_is_no_version_of_a_model_is_left_out(tmp_path: Path) -> None:
    storage.write_bytes(storage.join(str(tmp_path), "models/m/versions/notes.txt"), b"mine")
    assert retention.survey(str(tmp_path)).versions == {}


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


def version(root: str, name: str, number: int, **artifacts_: str) -> None:
    """What :mod:`dkd.models` writes of a version, as far as it is read here."""
    named = {kind: {"uri": storage.join(root, at)} for kind, at in artifacts_.items()}
    document = json.dumps({"version": number, **named}).encode()
    storage.write_bytes(storage.join(root, f"models/{name}/versions/{number:06d}.json"), document)


def test_a_removed_version_frees_what_nothing_else_uses(two_runs: str) -> None:
    """Its run may be gone long before; the next version's teacher stays."""
    make(two_runs, "checkpoints/c5", "gone", teacher="checkpoints/c1")
    make(two_runs, "memories/m5", "gone", checkpoint="checkpoints/c5")
    make(two_runs, "checkpoints/c6", "gone", teacher="checkpoints/c5")
    version(two_runs, "street", 1, checkpoint="checkpoints/c5", memory="memories/m5")
    version(two_runs, "street", 2, checkpoint="checkpoints/c6")
    found = retention.survey(two_runs)
    last = retention.removal_of_version(found, "model street version 2", LATER)
    assert last.places == ("checkpoints/c6",)
    assert last.kept["checkpoints/c5"] == ("model street version 1",)
    assert last.kept["checkpoints/c1"] == ("one", "model street version 1")
    first = retention.removal_of_version(found, "model street version 1", LATER)
    assert first.places == ("memories/m5",)
    claim(two_runs, "three")
    with pytest.raises(UserError, match=r"run 'three': has just begun"):
        retention.removal_of_version(
            retention.survey(two_runs), "model street version 1", datetime.now(UTC)
        )
