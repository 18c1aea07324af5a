"""What shows images, written anew without some: rows, thumbnails and archives agree."""

import io
import json
import tarfile
from pathlib import Path

import report_samples as samples

from dkd.memory import rewriting
from dkd.storage import artifacts


def test_a_memory_without_a_row(tmp_path: Path) -> None:
    rows = [{"id": n, "image": f"{n}.jpg", "mask": f"{n}.png"} for n in "abc"]
    folder = tmp_path / "held"
    folder.mkdir()
    (folder / "memory.json").write_text(json.dumps({"classes": [["x"]], "exemplars": rows}))
    with tarfile.open(folder / "images-00000.tar", "w") as archive:
        for row in rows:
            for name in (row["image"], row["mask"]):
                member = tarfile.TarInfo(name)
                member.size = 1
                archive.addfile(member, io.BytesIO(row["id"].encode()))
    for number, row in enumerate(rows):
        (folder / "thumbnails").mkdir(exist_ok=True)
        (folder / f"thumbnails/{number}.jpg").write_text(row["id"])
    held = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    uri = str(tmp_path / "memory")
    manifest = artifacts.publish(uri, held, kind="memory", metadata={})
    work = tmp_path / "work"
    work.mkdir()
    parts = rewriting.memory_without(folder, manifest, {1}, work)
    document = json.loads(bytes(parts["memory.json"]))  # type: ignore[arg-type]
    assert [row["id"] for row in document["exemplars"]] == ["a", "c"]
    shown = {name: Path(str(parts[name])).read_text() for name in parts if name.endswith(".jpg")}
    assert shown == {"thumbnails/0.jpg": "a", "thumbnails/1.jpg": "c"}
    with tarfile.open(str(parts["images-00000.tar"])) as archive:
        assert archive.getnames() == ["a.jpg", "a.png", "c.jpg", "c.png"]


def test_a_result_shows_none_of_them() -> None:
    result = samples.run()
    every = rewriting.shown(result)
    gone = {min(every)}
    assert len(every) > 1
    assert rewriting.shown(rewriting.result_without(result, gone)) == every - gone
    assert rewriting.result_without(result, ()) == result
