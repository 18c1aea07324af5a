"""Masks that annotations describe become files in the cache, once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dkd.data import making
from dkd.data.formats import Layout, Made, Pair
from dkd.errors import UserError
from dkd.scenario.data import Data


@dataclass
class Source:
    """Annotations of masks, by id, and how often each was drawn."""

    stamps: dict[str, str] = field(default_factory=lambda: dict.fromkeys("abc", "1"))
    drawn: list[str] = field(default_factory=list)
    bad: str = ""

    def layout(self, root: Path) -> Layout:
        pairs = tuple(Pair(i, f"images/{i}.jpg", f"masks/{i}.png") for i in self.stamps)
        return Layout(
            name="made",
            format="coco",
            root=str(root),
            classes={1: "cat"},
            palette={},
            future_is_void=False,
            splits={"train": pairs},
            made={
                pair.mask: Made(pair.id, self._stamp(pair.id), self._data(pair.id))
                for pair in pairs
            },
        )

    def _stamp(self, id_: str) -> Callable[[], str]:
        return lambda: self.stamps[id_]

    def _data(self, id_: str) -> Callable[[int], bytes]:
        def data(unlabelled: int) -> bytes:
            if id_ == self.bad:
                raise UserError(f"{id_}: cannot be drawn")
            self.drawn.append(id_)
            return f"{self.stamps[id_]} {unlabelled}".encode()

        return data


@pytest.fixture
def source() -> Source:
    return Source()


def write(source: Source, root: Path, **fields: str) -> Layout:
    data = Data.model_validate({"format": "coco", "root": str(root), **fields})
    return making.write(source.layout(root), data, root / "cache")


def test_masks_lie_in_the_cache_and_images_where_they_were(source: Source, tmp_path: Path) -> None:
    layout = write(source, tmp_path)
    pair = layout.splits["train"][0]
    assert layout.image_path(pair) == tmp_path / "images/a.jpg"
    assert layout.mask_path(pair).is_relative_to(tmp_path / "cache")
    assert layout.mask_path(pair).read_bytes() == b"1 0"
    void = write(source, tmp_path, unlabelled="void")
    assert void.mask_path(pair).read_bytes() == b"1 255"
    assert layout.mask_path(pair).read_bytes() == b"1 0"


def test_what_changed_or_went_is_drawn_again_and_what_is_not_described_goes(
    source: Source, tmp_path: Path
) -> None:
    paths = [write(source, tmp_path).mask_path(p) for p in source.layout(tmp_path).splits["train"]]
    source.drawn.clear()
    write(source, tmp_path)
    assert not source.drawn
    source.stamps["a"] = "2"
    paths[1].unlink()
    del source.stamps["c"]
    write(source, tmp_path)
    assert sorted(source.drawn) == ["a", "b"]
    assert paths[0].read_bytes() == b"2 0"
    assert not paths[2].exists()


def test_all_is_drawn_anew_where_that_is_asked_for(source: Source, tmp_path: Path) -> None:
    """What lies in the cache may be damaged, by a power cut say."""
    layout = write(source, tmp_path)
    path = layout.mask_path(layout.splits["train"][0])
    path.write_bytes(b"")
    data = Data(format="coco", root=str(tmp_path))
    making.write(source.layout(tmp_path), data, tmp_path / "cache", anew=True)
    assert path.read_bytes() == b"1 0"


def test_what_was_drawn_before_a_bad_annotation_is_kept(source: Source, tmp_path: Path) -> None:
    source.bad = "c"
    with pytest.raises(UserError, match="c: cannot be drawn"):
        write(source, tmp_path)
    source.bad = ""
    source.drawn.clear()
    write(source, tmp_path)
    assert source.drawn == ["c"]


def test_a_cache_that_cannot_be(source: Source, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(UserError, match="a file is where a folder is needed"):
        write(source, tmp_path)
    with pytest.raises(UserError, match="name a folder for it"):
        making.write(source.layout(tmp_path), Data(format="coco", root=str(tmp_path)), None)
