"""A memory's archives come from a bucket: nothing in them may reach another place."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageOps

from dkd.data import index
from dkd.errors import UserError
from dkd.evaluation.stage import evaluate
from dkd.memory.choice import choose_exemplars
from dkd.memory.exemplars import Memory
from dkd.network import deeplab
from dkd.scenario.schema import parse
from dkd.steps.step import Step, StepSpec
from dkd.training.ranks import Ranks


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


def memory_of(folder: Path, work: Path) -> dict[str, Path]:
    """The exemplars of a first step on all images of a folder, and its evaluation's pictures."""
    given = parse(
        {
            "name": "exemplars",
            "data": {"format": "folder", "root": str(folder)},
            "task": [["cat", "dog"]],
            "memory_size": 4,
            "network": {"backbone": "demo", "weights": "none", "aspp_channels": 16},
            "training": {
                "epochs": {"first": 1, "later": 1},
                "batch_size": 4,
                "crop": 32,
                "lr": {"first": 0.01, "later": 0.01},
                "loader_workers": 0,
            },
        },
        source="test",
    )
    spec = StepSpec(scenario=given, task=(("cat", "dog"),), step=0, dataset="", root="")
    step = Step(spec, index.build(given.data), None, None)
    ranks = Ranks(0, 1, 0, torch.device("cpu"), None)
    torch.manual_seed(1)
    model = deeplab.build(given.network, [2]).eval()
    work.mkdir()
    made = choose_exemplars(step, model, None, lambda _: folder, ranks, work, print)
    return made | evaluate(step, model, lambda _: folder, ranks, work)


def test_exemplars_and_pictures_are_upright(folder: Path, tmp_path: Path) -> None:
    """A tagged photograph gives what the same one gives without its tag, turned beforehand."""
    for split in ("train", "validation"):
        for path in (folder / "images" / split).iterdir():
            image = Image.open(path)
            image.load()
            exif = Image.Exif()
            exif[0x0112] = 6
            image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    tagged = memory_of(folder, tmp_path / "tagged")
    for split in ("train", "validation"):
        for path in (folder / "images" / split).iterdir():
            ImageOps.exif_transpose(Image.open(path)).save(path, exif=b"")
    turned = memory_of(folder, tmp_path / "turned")
    assert tagged.keys() == turned.keys()
    pictures = [name for name in tagged if name.endswith((".jpg", ".png"))]
    assert len(pictures) >= 4 + 3
    # Other files have other digests, which may decide the order.
    shown = [sorted(made[name].read_bytes() for name in pictures) for made in (tagged, turned)]
    assert shown[0] == shown[1]
    masks = []
    for made in (tagged, turned):
        with tarfile.open(made["images-00000.tar"]) as archive:
            names = [name for name in archive.getnames() if name.endswith(".mask.png")]
            masks.append({n: archive.extractfile(n).read() for n in names})  # type: ignore[union-attr]
    assert len(masks[0]) == 4
    assert sorted(masks[0].values()) == sorted(masks[1].values())
