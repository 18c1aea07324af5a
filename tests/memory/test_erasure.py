"""A person's images leave every memory; the models that saw them are known."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from step_runs import Run, scenario

from dkd import storage
from dkd.cli import main
from dkd.errors import UserError
from dkd.memory import erasure
from dkd.memory.exemplars import Memory
from dkd.steps import retention
from dkd.steps.step import Step, StepSpec, read_json
from dkd.storage import artifacts


@pytest.fixture
def trained(s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, StepSpec]:
    """Two steps with their memories, in the real store; and the second one's spec."""
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DKD_S3_GIVE_UP_SECONDS", "60")
    run = Run(s3_root, scenario())  # type: ignore[arg-type]
    run.step(0)
    spec = run.spec(1)
    run.step(1)
    return run, spec


def listed(uri: str) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = read_json(artifacts.load(uri), "memory.json")["exemplars"]
    return rows


def forget(*words: str) -> str:
    done = CliRunner().invoke(main, ["memory", "forget", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_an_image_leaves_every_memory(trained: tuple[Run, StepSpec], tmp_path: Path) -> None:
    run, spec = trained
    root, first, second = str(run.root), spec.memory, run.memory
    both = {row["id"] for row in listed(second)} & {row["id"] for row in listed(first)}
    image = sorted(both)[0]  # was kept from the first memory to the second
    before = artifacts.load(first)
    _, parts = artifacts.fetch_cached(first, tmp_path / "old")
    old = Memory.open(parts, tmp_path / "old-files")
    (gone,) = (e for e in old.exemplars if e.id == image)
    content = (old.folder / gone.image).read_bytes()
    assert any(content in storage.read_bytes(e.uri) for e in storage.list_objects(first))

    plan = erasure.plan(retention.survey(root), [image])
    assert {held.manifest.uri for held in plan.memories} == {first, second}
    saw = {read_json(seen.checkpoint, "checkpoint.json")["step"]: seen.how for seen in plan.models}
    assert saw[0] == ("its own step's image",)
    assert {"an exemplar", "through its teacher"} <= set(saw[1])
    assert [m.kind for m in plan.datasets] == ["dataset"]

    shown = forget(image, "--root", root)
    assert f"memory    {second}: holds 1 of them among 8 exemplars" in shown
    assert "nothing is changed without --yes" in shown
    assert artifacts.load(first) == before
    step = Step.open(spec).checkpoint_uri
    assert "forgotten in 2 memories" in forget(image, "--root", root, "--yes")
    for uri in (first, second):
        assert image not in {row["id"] for row in listed(uri)}
        assert not any(content in storage.read_bytes(e.uri) for e in storage.list_objects(uri))
    manifest, parts = artifacts.fetch_cached(first, tmp_path / "new")
    new = Memory.open(parts, tmp_path / "new-files")
    assert [e.id for e in new.exemplars] == [e.id for e in old.exemplars if e.id != image]
    for exemplar in new.exemplars:
        for name in (exemplar.image, exemplar.mask):
            assert (new.folder / name).read_bytes() == (old.folder / name).read_bytes()
    kept = [i for i, e in enumerate(old.exemplars) if e.id != image]
    for number, place in enumerate(kept):
        thumbnail = manifest.parts[f"thumbnails/{number}.jpg"]
        assert thumbnail.sha256 == before.parts[f"thumbnails/{place}.jpg"].sha256
    assert manifest.metadata["forgotten"] == 1
    objects = {entry.uri for entry in storage.list_objects(first)}
    assert objects == {manifest.part_uri(n) for n in manifest.parts} | {f"{first}/manifest.json"}
    # The step that used it is another one now: it would be trained anew.
    assert Step.open(spec).checkpoint_uri != step


def test_an_image_that_is_nowhere_is_refused(s3_root: str) -> None:
    with pytest.raises(UserError, match=r"nobody: no memory, data set or report under"):
        erasure.plan(retention.survey(s3_root), ["nobody"])
