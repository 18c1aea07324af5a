"""Bad input: one line that names the file or field and says what to do."""

import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkd.data import index
from dkd.errors import UserError
from dkd.scenario.data import Data


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nearly nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_mask_missing(folder: Path, refuse) -> None:
    (folder / "masks/train/2.png").unlink()
    refuse(folder, "folder", "masks/train/2.png", "mask is missing")


def test_image_missing(voc_maker: Callable[..., Path], tmp_path: Path, refuse) -> None:
    root = voc_maker(tmp_path / "voc", 3, 2)
    (root / "JPEGImages/2007_000001.jpg").unlink()
    refuse(root, "voc", "JPEGImages/2007_000001.jpg", "image is missing")


def test_sizes_differ(folder: Path, refuse) -> None:
    Image.new("L", (5, 4)).save(folder / "masks/train/1.png")
    refuse(folder, "folder", "masks/train/1.png", "5x4", "1.png is")


def test_label_value_outside_the_classes(folder: Path, refuse) -> None:
    path = folder / "masks/validation/0.png"
    labels = np.array(Image.open(path))
    labels[0, 0] = 3
    Image.fromarray(labels).save(path)
    refuse(folder, "folder", "masks/validation/0.png", "label value 3", "pets")


def test_label_value_is_refused_on_a_cached_scan_too(folder: Path, tmp_path: Path) -> None:
    data = Data(format="folder", root=str(folder))
    index.build(data, tmp_path / "cache")
    (folder / "classes.yaml").write_text("1: cat\n")
    with pytest.raises(UserError, match="label value 7"):
        index.build(data, tmp_path / "cache")


@pytest.mark.parametrize("keep", [0, 10, 60, -20])
def test_truncated_image_and_mask(folder: Path, keep: int, refuse) -> None:
    for path in (folder / "images/train/0.png", folder / "masks/train/0.png"):
        content = path.read_bytes()
        path.write_bytes(content[:keep])
        refuse(folder, "folder", str(path.relative_to(folder)), "replace it")
        path.write_bytes(content)


def test_truncated_jpeg(voc_maker: Callable[..., Path], tmp_path: Path, refuse) -> None:
    root = voc_maker(tmp_path / "voc", 3, 2)
    path = root / "JPEGImages/2007_000004.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    refuse(root, "voc", "2007_000004.jpg", "corrupt")


def test_mask_in_colours(folder: Path, refuse) -> None:
    path = folder / "masks/train/0.png"
    Image.open(path).convert("RGB").save(path)
    refuse(folder, "folder", "masks/train/0.png", "RGB", "one channel of label values")


def test_mask_as_jpeg(folder: Path, refuse) -> None:
    path = folder / "masks/train/0.png"
    Image.open(path).convert("L").save(path, "JPEG")
    refuse(folder, "folder", "masks/train/0.png", "not a PNG")


@pytest.mark.parametrize(
    "size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (9000, 8000), (5000, 9)]
)
def test_absurd_sizes(folder: Path, size: tuple[int, int], refuse) -> None:
    (folder / "images/train/0.png").write_bytes(png_of_size(*size))
    refuse(folder, "folder", "images/train/0.png")


def test_other_kinds_of_files(folder: Path, refuse) -> None:
    Image.new("RGB", (20, 20)).save(folder / "images/train/0.png", "GIF")
    refuse(folder, "folder", "images/train/0.png", "JPEG, PNG, TIFF or WebP")


def test_folder_missing(tmp_path: Path, refuse) -> None:
    refuse(tmp_path / "nowhere", "folder", "nowhere", "no such folder")
    refuse(tmp_path, "voc", "no such folder")
    refuse(tmp_path, "ade20k", "images/training")


def test_cache_not_writable(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "file"))):
        index.build(Data(format="folder", root=str(folder)), tmp_path / "file")
