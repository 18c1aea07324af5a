"""``street`` and ``street:3`` wherever a checkpoint is asked for."""

from pathlib import Path

import pytest
from made_results import finished

import dkd
from dkd.errors import UserError
from dkd.models import adding, catalogue
from dkd.models.reference import VersionName, resolve
from dkd.storage import artifacts


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Three versions of *street*, the second one in production; the working folder is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DKD_ROOT", raising=False)
    place = str(tmp_path / "root")
    for run in ("one", "two", "three"):
        finished(place, run, "road")
        adding.add_run(place, "street", run, registry="", say=lambda _: None)
    catalogue.promote(place, "street", 2, by="Ada")
    return place


@pytest.mark.parametrize(
    ("text", "name", "number"),
    [("street", "street", None), ("street:3", "street", 3), ("a.b-c:12", "a.b-c", 12)],
)
def test_a_name_may_have_a_version(text: str, name: str, number: int | None) -> None:
    found = VersionName.of(text)
    assert found == VersionName(name, number)
    assert str(found) == text


@pytest.mark.parametrize(
    "text",
    [
        *("s3://dkd/checkpoints/3f", "file:///street", "./street", "a/street", "C:\\street", ""),
        *("Street", "street:", "street:0", "street:03", "street:-1", "street:x", "street:1:2"),
        "street:9999999",
    ],
)
def test_anything_else_is_a_uri_or_a_folder(text: str) -> None:
    assert VersionName.of(text) is None


def test_a_folder_that_holds_a_checkpoint_is_that_one(root: str) -> None:
    Path("street").mkdir()
    assert VersionName.of("street") == VersionName("street")
    artifacts.publish("street", {"x": b""}, kind="checkpoint", metadata={})
    assert VersionName.of("street") is None
    assert VersionName.of("street:2") == VersionName("street", 2)


def test_a_name_is_the_version_in_production_and_said(root: str) -> None:
    said: list[str] = []
    for named, number, standing in (("street", 2, ", in production"), ("street:3", 3, "")):
        reference = VersionName.of(named)
        assert reference
        uri = resolve(root, reference, said.append)
        assert uri == catalogue.version(root, "street", number).checkpoint.uri
        assert said.pop() == f"model street version {number}{standing}: {uri}"


def test_what_cannot_be_found_is_one_line(root: str) -> None:
    finished(root, "other", "bus")
    adding.add_run(root, "bus", "other", registry="", say=lambda _: None)
    artifacts.remove(catalogue.version(root, "street", 3).checkpoint.uri)
    catalogue.remove(root, "street", 1, by="Ben")
    for named, line in (
        (
            VersionName("road"),
            "road: no folder with a checkpoint, and no model of that name ",
        ),
        (VersionName("road", 2), "road:2: .*; models there: bus, street"),
        (VersionName("bus"), "model bus: no version is in production; dkd models promote bus 1"),
        (VersionName("street", 7), "model street: no version 7; there are: 2, 3"),
        (VersionName("street", 1), "model street: version 1 was removed, .* by Ben"),
        (VersionName("street", 3), "model street version 3: its checkpoint is gone"),
    ):
        with pytest.raises(UserError, match=f"^{line}"):
            resolve(root, named, lambda _: None)


def test_python_takes_a_name_with_its_root(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^street: .* no artifact root .*; give root, or set DKD"):
        dkd.load("street")
    with pytest.raises(UserError, match=r"^road: .*; models there: street"):
        dkd.load("road", root=root)
    monkeypatch.setenv("DKD_ROOT", root)
    with pytest.raises(UserError, match="model street: no version 4; there are: 1, 2, 3"):
        dkd.load("street:4")
