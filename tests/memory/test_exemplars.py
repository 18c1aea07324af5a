"""A memory's archives come from a bucket: nothing in them may reach another place."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dkd.errors import UserError
from dkd.memory.exemplars import Memory


def member(name: str, **fields: object) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(header, field, value)
    return header


@pytest.fixture
def parts(tmp_path: Path) -> Callable[..., Path]:
    def make(image: str, *members: tarfile.TarInfo) -> Path:
        folder = tmp_path / "parts"
        folder.mkdir()
        row = {
            "id": "a",
            "step": 0,
            "image": image,
            "mask": "0.mask.png",
            "height": 1,
            "width": 1,
            "classes": ["cat"],
            "digest": "",
            "dataset": "",
        }
        (folder / "memory.json").write_text(json.dumps({"classes": [["cat"]], "exemplars": [row]}))
        with tarfile.open(folder / "images-00000.tar", "w") as archive:
            for header in (*members, member("0.mask.png", size=1)):
                archive.addfile(header, io.BytesIO(b"x" * header.size))
        return folder

    return make


@pytest.mark.parametrize("name", ["../escaped.png", "/{}/escaped.png", "a/../../escaped.png"])
def test_a_name_cannot_leave_the_folder(
    parts: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    name = name.format(str(tmp_path).strip("/"))
    folder = parts(name, member(name, size=3))
    with pytest.raises(UserError, match=r"images-00000\.tar: member .* is not a plain file inside"):
        Memory.open(folder, tmp_path / "out")
    assert not (tmp_path / "escaped.png").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_pipes_are_refused(
    parts: Callable[..., Path], tmp_path: Path, kind: bytes
) -> None:
    folder = parts("0.png", member("0.png", type=kind, linkname="/etc/passwd"))
    with pytest.raises(UserError, match="is not a plain file inside"):
        Memory.open(folder, tmp_path / "out")


def test_what_is_not_listed_stays_in_the_archive(
    parts: Callable[..., Path], tmp_path: Path
) -> None:
    folder = parts("0.png", member("0.png", size=2), member("../more", size=1))
    Memory.open(folder, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"0.png", "0.mask.png"}


def test_a_listed_file_that_is_missing_is_named(parts: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"memory\.json: no shard holds '0\.png'"):
        Memory.open(parts("0.png"), tmp_path / "out")
