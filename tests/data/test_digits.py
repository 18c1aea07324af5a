from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkd.data import digits, index
from dkd.errors import UserError
from dkd.scenario.data import Data

SMALL = Data.Digits(train=30, validation=10, size=48)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_equal_settings_give_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        digits.make(tmp_path / name, SMALL)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    digits.make(tmp_path / "c", SMALL.model_copy(update={"seed": 2}))
    assert contents(tmp_path / "a") != contents(tmp_path / "c")
    assert {p.name for p in tmp_path.iterdir()} == {"a", "b", "c"}


def test_index_makes_them_once(tmp_path: Path) -> None:
    data = Data(format="digits", digits=SMALL)
    dataset = index.build(data, tmp_path)
    assert (dataset.name, len(dataset.train), len(dataset.validation)) == ("digits", 30, 10)
    assert list(dataset.classes.values())[:3] == ["zero", "one", "two"]
    assert {(r.height, r.width) for r in dataset.train} == {(48, 48)}
    assert all(r.classes for r in dataset.train)
    image = Path(dataset.root) / dataset.train[0].image
    before = image.stat().st_mtime_ns
    assert index.build(data, tmp_path) == dataset
    assert image.stat().st_mtime_ns == before


def test_scenes_hold_several_whole_digits(tmp_path: Path) -> None:
    dataset = index.build(Data(format="digits", digits=SMALL), tmp_path)
    counts = [len(r.classes) for r in dataset.train]
    assert np.mean(counts) > 1.2
    assert {v for r in dataset.train for v in r.classes} == set(range(1, 11))
    for record in dataset.train[:10]:
        mask = np.array(Image.open(Path(dataset.root) / record.mask))
        assert 0.01 < np.isin(mask, record.classes).mean() < 0.5


def test_training_and_validation_share_no_handwriting() -> None:
    train, validation = (set(digits.handwriting(s, 1797)) for s in ("train", "validation"))
    assert not train & validation
    assert len(train | validation) == 1797


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(UserError, match="something else"):
        digits.make(tmp_path, SMALL)
    digits.make(tmp_path / "made", SMALL)
    with pytest.raises(UserError, match="something else"):
        digits.make(tmp_path / "made", SMALL.model_copy(update={"seed": 2}))
    assert (tmp_path / "thesis.txt").read_text() == "all of it"


def test_no_folder_named() -> None:
    with pytest.raises(UserError, match=r"data\.root"):
        index.build(Data(format="digits"))


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        digits.make(tmp_path / "file" / "data", SMALL)
