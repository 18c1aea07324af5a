import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from dkd.cli import main
from dkd.data import scan
from dkd.scenario.data import Data


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))


def dkd(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["data", *map(str, words)])


def last_line(result: Result) -> str:
    return result.stderr.splitlines()[-1]


def test_check_tells_counts_and_sizes(folder: Path) -> None:
    result = dkd("check", folder, "--format", "folder")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0][:3] == ["pets:", "2", "classes,"]
    assert lines[2][:2] == ["train", "4"]
    assert ["1", "cat", "2", "2"] in lines
    assert ["7", "dog", "4", "4"] in lines


def test_check_lists_what_is_missing_and_where_to_get_it(voc: Data, tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "VOC2012"
    shutil.copytree(voc.root, root)
    shutil.rmtree(root / "SegmentationClassAug")
    (root / "JPEGImages" / "2007_000061.jpg").unlink()
    result = dkd("check", root, "--format", "voc")
    assert result.exit_code == 2
    assert (
        "train: 60 of 60 masks are missing: SegmentationClassAug/2007_000000.png" in result.stderr
    )
    assert "validation: 1 of 25 images are missing: JPEGImages/2007_000061.jpg" in result.stderr
    assert "SegmentationClassAug.zip" in result.stderr
    assert last_line(result).startswith(f"dkd: {root}: 61 files are missing")


def test_check_without_the_folder_says_where_to_get_it(tmp_path: Path) -> None:
    for name, word in (("voc", "VOCtrainval"), ("ade20k", "ADEChallengeData2016.zip")):
        result = dkd("check", tmp_path / "none", "--format", name)
        assert result.exit_code == 2
        assert word in result.stderr
        assert last_line(result).startswith(f"dkd: {tmp_path}/none: no such folder")


def test_check_compares_with_the_published_set(voc: Data) -> None:
    result = dkd("check", voc.root, "--format", "voc")
    assert result.exit_code == 0
    assert "train: 60 images, published 10582" in result.stdout
    result = dkd("check", voc.root, "--format", "voc", "--published")
    assert result.exit_code == 2
    assert "differs from the published data set in 2 lists" in last_line(result)


def test_pack_and_index(voc: Data, tmp_path: Path) -> None:
    packed, index = tmp_path / "packed", tmp_path / "index"
    result = dkd("pack", voc.root, packed, "--format", "voc", "--work", tmp_path / "work")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{packed}: 60 train, 25 validation, 1 shards, ")
    result = dkd("index", voc.root, index, "--format", "voc")
    assert result.exit_code == 0, result.output
    assert (index / "manifest.json").is_file()
    result = dkd("pack", voc.root, index, "--format", "voc")
    assert result.exit_code == 2
    assert "is there without its images" in last_line(result)
    result = dkd("index", voc.root, packed, "--format", "voc")
    assert "is there with its images" in last_line(result)


@pytest.mark.parametrize(
    ("command", "more", "classes"),
    [("digits", (), 10), ("pictograms", (), 10), ("pictograms", ("--new-class", "house"), 11)],
)
def test_scenes_are_drawn(command: str, more: Sequence[str], classes: int, tmp_path: Path) -> None:
    options = ("--train", "12", "--validation", "6", "--size", "32")
    assert dkd(command, tmp_path / "scenes", *options, *more).exit_code == 0
    result = dkd("check", tmp_path / "scenes", "--format", "folder")
    assert result.exit_code == 0, result.output
    assert f"scenes: {classes} classes" in result.stdout


def test_check_reads_every_file_and_notes_what_is_not_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "images/train/x.bmp").write_bytes(b"")
    kinds = "JPEG, PNG, TIFF and WebP"
    note = f"note: 1 train images of other kinds than {kinds}, not used: images/train/x.bmp"
    assert note in dkd("check", folder, "--format", "folder").stderr.splitlines()
    looked: list[Path] = []
    whole = scan.examine
    monkeypatch.setattr(scan, "examine", lambda *paths: looked.append(paths[0]) or whole(*paths))
    assert dkd("index", folder, folder.parent / "index", "--format", "folder").exit_code == 0
    assert looked == []
    assert dkd("check", folder, "--format", "folder").exit_code == 0
    assert len(looked) == 8


def test_packing_takes_a_file_replaced_by_one_of_its_size_and_time(folder: Path) -> None:
    """It did not, and told people to index again, which changed nothing."""
    mask = folder / "masks/train/1.png"
    pixels = np.array(Image.open(mask))
    Image.fromarray(pixels).save(mask, compress_level=0)
    assert dkd("index", folder, folder.parent / "index", "--format", "folder").exit_code == 0
    stat = mask.stat()
    Image.fromarray(np.flip(pixels, 1)).save(mask, compress_level=0)
    os.utime(mask, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    result = dkd("pack", folder, folder.parent / "packed", "--format", "folder")
    assert result.exit_code == 0, result.output


def test_the_format_is_recognised(folder: Path, tmp_path: Path) -> None:
    result = dkd("check", folder)
    assert result.exit_code == 0, result.output
    assert f"note: {folder} looks like the format folder" in result.stderr.splitlines()
    (tmp_path / "empty").mkdir()
    result = dkd("check", tmp_path / "empty")
    assert result.exit_code == 2
    assert "looks like none of" in last_line(result)


def test_a_corrupt_image_is_one_line(folder: Path) -> None:
    (folder / "images/train/1.png").write_bytes(b"junk")
    result = dkd("check", folder, "--format", "folder")
    assert result.exit_code == 2
    assert (
        last_line(result)
        == f"dkd: {folder}/images/train/1.png: not a JPEG, PNG, TIFF or WebP file; replace it"
    )


def test_view_and_convert_take_folders_and_what_was_packed(tmp_path: Path) -> None:
    scenes, packed = tmp_path / "scenes", str(tmp_path / "packed")
    assert dkd("digits", str(scenes), "--train", "10", "--validation", "5").exit_code == 0
    assert dkd("pack", str(scenes), packed).exit_code == 0
    for source in (str(scenes), packed):
        plain, page = tmp_path / f"plain-{Path(source).name}", tmp_path / "labels.html"
        result = dkd("convert", source, str(plain))
        assert result.exit_code == 0, result.output
        assert "10 train, 5 validation, 10 classes" in result.output
        result = dkd("view", source, "--output", str(page), "--images", "6")
        assert result.exit_code == 0, result.output
        assert page.read_text().count("<figure>") == 6
    result = dkd("view", packed, "--output", str(page), "--format", "voc")
    assert result.exit_code == 2
    assert last_line(result) == f"dkd: {packed}: is already packed or indexed; leave out --format"
    first, second = sorted(tmp_path.glob("plain-*"))
    names = sorted(p.relative_to(first) for p in first.rglob("*.png"))
    assert len(names) == 30
    assert all((first / n).read_bytes() == (second / n).read_bytes() for n in names)
