from pathlib import Path

import pytest

from dkd.data import index, made
from dkd.errors import UserError
from dkd.scenario.data import MADE, Data


def small(kind: str, **more: int) -> Data:
    settings = {"train": 10, "validation": 5, "size": 48, **more}
    return Data.model_validate({"format": kind, kind: settings})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", MADE)
def test_equal_settings_give_equal_files(kind: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        made.make(tmp_path / name, small(kind))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    made.make(tmp_path / "c", small(kind, seed=2))
    assert contents(tmp_path / "a") != contents(tmp_path / "c")
    assert {p.name for p in tmp_path.iterdir()} == {"a", "b", "c"}


@pytest.mark.parametrize(("kind", "first"), [("digits", "zero"), ("pictograms", "cat")])
def test_index_makes_them_once(kind: str, first: str, tmp_path: Path) -> None:
    data = small(kind)
    dataset = index.build(data, tmp_path)
    assert (dataset.name, len(dataset.train), len(dataset.validation)) == (kind, 10, 5)
    assert next(iter(dataset.classes.values())) == first
    assert {(r.height, r.width) for r in dataset.train} == {(48, 48)}
    assert all(r.classes for r in dataset.train)
    image = Path(dataset.root) / dataset.train[0].image
    before = image.stat().st_mtime_ns
    assert index.build(data, tmp_path) == dataset
    assert image.stat().st_mtime_ns == before


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(UserError, match="something else"):
        made.make(tmp_path, small("digits"))
    made.make(tmp_path / "made", small("digits"))
    for other in (small("digits", seed=2), small("pictograms")):
        with pytest.raises(UserError, match="something else"):
            made.make(tmp_path / "made", other)
    assert (tmp_path / "thesis.txt").read_text() == "all of it"


def test_no_folder_named() -> None:
    with pytest.raises(UserError, match=r"data\.root"):
        index.build(small("digits"))


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        made.make(tmp_path / "file" / "data", small("digits"))
