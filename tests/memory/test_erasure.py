"""A person's images leave all that shows them; the models that saw them are known."""

import base64
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from step_runs import Run, scenario

from dkd import storage
from dkd.cli import main
from dkd.data import index, packed
from dkd.errors import UserError
from dkd.memory import erasure
from dkd.memory.exemplars import Memory
from dkd.report import collect
from dkd.scenario.data import Data
from dkd.steps import retention, stages
from dkd.steps.step import Step, StepSpec, read_json
from dkd.storage import artifacts


@pytest.fixture
def trained(s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, StepSpec]:
    """Two steps with their memories, in the real store; and the second one's spec."""
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DKD_S3_GIVE_UP_SECONDS", "60")
    run = Run(s3_root, scenario())  # type: ignore[arg-type]
    made = []
    for number in (0, 1):
        spec = run.spec(number)
        run.step(number)
        made.append((run.teacher, run.evaluation, run.memory))
    given = (run.scenario, run.prepared.task, run.prepared.dataset)
    result = collect.gather(*given, "test", *zip(*made, strict=True))
    collect.publish(result, s3_root, "test")
    stages.claim_run(s3_root, "test", run.scenario)
    page = tmp_path / "workspace/runs/test/kfp/demo/evaluate/step_page"
    page.parent.mkdir(parents=True)
    page.write_text(collect.page([result]))
    (tmp_path / "workspace/report.html").write_text(collect.page([result]))
    monkeypatch.chdir(tmp_path)
    return run, spec


def listed(uri: str) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = read_json(artifacts.load(uri), "memory.json")["exemplars"]
    return rows


def planned(root: str, *images: str, days: float = 0) -> erasure.Plan:
    now = datetime.now(UTC) + timedelta(days=days)
    return erasure.plan(retention.survey(root), images, Path("workspace"), now)


def forget(*words: str) -> str:
    done = CliRunner().invoke(main, ["memory", "forget", *words, "--workspace", "workspace"])
    assert done.exit_code == 0, done.output
    return done.stdout


def everything(root: str, *folders: Path) -> Iterator[tuple[str, bytes]]:
    """All that lies under a root and in folders of this machine."""
    for entry in storage.list_objects(root):
        yield entry.uri, storage.read_bytes(entry.uri)
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                yield str(path), path.read_bytes()


def pictures(name: str, content: bytes) -> Iterator[bytes]:
    """Every photograph in a file: itself, or those of a result document."""
    if name.endswith((".jpg", ".jpeg", ".png")):
        yield content
    if name.endswith("/result.json"):
        document = json.loads(content)
        for each in document["references"]:
            yield base64.urlsafe_b64decode(each["image"])
        for step in document["steps"]:
            for each in step["exemplars"]:
                yield base64.urlsafe_b64decode(each["thumbnail"])


def looks_like(one: bytes, other: Image.Image) -> bool:
    with Image.open(io.BytesIO(one)) as opened:
        pixels = np.asarray(opened.convert("RGB").resize((16, 16)), float)
    return (
        float(np.abs(pixels - np.asarray(other.convert("RGB").resize((16, 16)), float)).mean()) < 4
    )


def test_nothing_under_the_root_shows_it_afterwards(
    trained: tuple[Run, StepSpec], tmp_path: Path
) -> None:
    """One exemplar and one picture of the evaluations: bytes, derived pictures, decoded pixels."""
    run, spec = trained
    root = str(run.root)
    dataset = Step.open(spec).dataset
    records = {r.id: r for records in dataset.splits.values() for r in records}
    evaluations = [e for e in retention.survey(root).manifests.values() if e.kind == "evaluation"]
    assert len(evaluations) == 2
    gone = {
        listed(spec.memory)[0]["id"]: listed(spec.memory),
        read_json(evaluations[0], "evaluation.json")["pictures"][1]: None,
    }
    files = [Path(dataset.root) / records[name].image for name in gone]
    needles = [file.read_bytes() for file in files]
    for number, row in enumerate(listed(spec.memory)):
        if row["id"] in gone:
            needles.append(
                artifacts.read_part(artifacts.load(spec.memory), f"thumbnails/{number}.jpg")
            )
    for evaluation in evaluations:
        made = {n: artifacts.read_part(evaluation, n) for n in evaluation.parts if "pictures/" in n}
        others = {content for name, content in made.items() if not name.startswith("pictures/1.")}
        # A prediction of these small models may be the same for several images.
        needles += [made[n] for n in made if n.startswith("pictures/1.") and made[n] not in others]
    coded = [code(n) for n in needles for code in (base64.b64encode, base64.urlsafe_b64encode)]
    originals = [Image.open(file) for file in files]
    places = (tmp_path / "workspace", tmp_path / "cache/artifacts")

    def found() -> set[str]:
        return {
            name
            for name, content in everything(root, *places)
            if any(n in content for n in (*needles, *coded))
            or any(looks_like(p, o) for p in pictures(name, content) for o in originals)
        }

    before = found()
    assert {
        name.removeprefix(f"{root}/").split("/")[0] for name in before if name.startswith(root)
    } == {"evaluations", "memories", "runs"}
    assert any(name.endswith("result.json") for name in before)
    assert any(name.endswith("report.html") for name in before)
    assert any("cache" in name for name in before)
    told = forget(*gone, "--root", root, "--yes")
    assert found() == set()
    assert "in 2 memories, 2 evaluations and 1 runs' results" in told
    assert "not reached: " in told
    for evaluation in evaluations:
        kept = read_json(artifacts.load(evaluation.uri), "evaluation.json")
        assert not gone.keys() & set(kept["pictures"])
        assert len(kept["pictures"]) == 5
    result = collect.load(f"{root}/runs/test/result.json")
    assert len(result.references) == 5
    assert {p.id for step in result.steps for p in step.predictions} == {
        each.id for each in result.references
    }


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

    plan = planned(root, image)
    assert {held.manifest.uri for held in plan.memories} == {first, second}
    saw = {read_json(seen.checkpoint, "checkpoint.json")["step"]: seen.how for seen in plan.models}
    assert saw[0] == ("its own step's image",)
    assert {"an exemplar", "through its teacher"} <= set(saw[1])
    assert [listing.manifest.kind for listing in plan.datasets] == ["dataset"]

    shown = forget(image, "--root", root)
    assert f"memory      {second}: holds 1 of them among 8 exemplars" in shown
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


def test_a_model_saw_what_its_memory_held_when_it_was_trained(
    trained: tuple[Run, StepSpec],
) -> None:
    """Also after other images were taken out of that memory: its digest is another one then."""
    run, spec = trained
    one, other = (row["id"] for row in listed(spec.memory)[:2])
    how = {seen.checkpoint.uri: seen.how for seen in planned(str(run.root), other).models}
    assert any("an exemplar" in reasons for reasons in how.values())
    erasure.apply(planned(str(run.root), one))
    assert {s.checkpoint.uri: s.how for s in planned(str(run.root), other).models} == how


def test_an_interrupted_request_goes_on(
    trained: tuple[Run, StepSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the new manifest and the old parts' end nothing names the image any more."""
    run, spec = trained
    root, image = str(run.root), listed(spec.memory)[0]["id"]
    content = (Path(Step.open(spec).dataset.root) / f"images/train/{image}.png").read_bytes()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    memories = len(planned(root, image).memories)
    for _ in range(memories):
        with monkeypatch.context() as patch:
            patch.setattr(artifacts, "_give_way", interrupted)
            with pytest.raises(KeyboardInterrupt):
                erasure.apply(planned(root, image))
    assert planned(root, image).memories == ()
    assert any(content in data for _, data in everything(root))
    erasure.apply(planned(root, image))
    assert not any(content in data for _, data in everything(root))


def test_what_killed_writers_left_goes_once_it_is_old(s3_root: str) -> None:
    for place in ("memories/half", "evaluations/half", "datasets/half", "checkpoints/half"):
        storage.write_bytes(f"{s3_root}/{place}/parts/0/x", b"half")
    storage.write_bytes(f"{s3_root}/runs/half/report.html", b"<html>")
    fresh = planned(s3_root, "nobody")
    assert (fresh.strays, fresh.unknown, len(fresh.fresh)) == ((), ("nobody",), 4)
    assert sum("ask again in a day" in line for line in fresh.lines()) == 4
    erasure.apply(planned(s3_root, "nobody", days=2))
    assert [e.uri for e in storage.list_objects(s3_root)] == [
        f"{s3_root}/checkpoints/half/parts/0/x"
    ]


def test_a_packed_data_set_is_named_with_the_command_that_removes_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    root = str(tmp_path / "root")
    dataset = index.build(Data(format="folder", root=str(folder)), tmp_path / "scans")
    manifest = packed.pack(dataset, f"{root}/datasets/pets", tmp_path)
    opened, _ = packed.open_dataset(manifest.uri)
    record = opened.train[0]
    packed.materialise(opened, manifest, [record], tmp_path / "cache/artifacts")
    content = (folder / record.image).read_bytes()
    plan = planned(root, record.id)
    (line,) = (line for line in plan.lines() if line.startswith("data set "))
    command = line.rpartition("then: dkd ")[2].split()
    erasure.apply(plan)
    assert not any(content in data for _, data in everything(str(tmp_path / "cache")))
    assert any(content in data for _, data in everything(root))
    assert (
        CliRunner().invoke(main, command[:-1]).stdout.endswith("nothing is removed without --yes\n")
    )
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert list(storage.list_objects(root)) == []


def test_an_image_that_is_nowhere_is_refused(s3_root: str) -> None:
    with pytest.raises(UserError, match=r"nobody: no memory, evaluation, data set or report under"):
        planned(s3_root, "nobody")
