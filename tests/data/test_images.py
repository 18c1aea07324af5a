"""What becomes of every kind of image and mask file."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from dkd.data import images
from dkd.data.images import Frame, decode_mask, decode_pair, read_image
from dkd.errors import UserError

ORIENTATION = 0x0112


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    cells = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)


def tagged(image: Image.Image, path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(path, exif=exif)
    return path


def png(rows: np.ndarray, depth: int, colour_type: int, extra: bytes = b"") -> bytes:
    """A PNG of unfiltered rows: what Pillow cannot write. Samples come big-endian, in bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    width = rows.shape[1] * 8 // (depth * channels)
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour_type, 0, 0, 0)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("orientation", [*range(9), 77])
def test_images_are_upright_as_pillow_turns_them(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    path = tagged(picture(30, 20), tmp_path / f"x.{suffix}", orientation)
    expected = ImageOps.exif_transpose(Image.open(path))
    image = read_image(path)
    assert np.array_equal(np.asarray(image), np.asarray(expected))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(30, 20), (20, 20)])
def test_masks_lie_over_the_upright_image(
    tmp_path: Path, orientation: int, size: tuple[int, int]
) -> None:
    """The mask is the red channel, so where the two lie askew their pixels differ."""
    path = tagged(picture(*size), tmp_path / "x.png", orientation)
    seen = ImageOps.exif_transpose(Image.open(path))
    files = {"upright": seen.getchannel(0), "stored": Image.open(path).getchannel(0)}
    for drawn, mask in files.items():
        if drawn == "stored" and not (orientation >= 5 and size[0] != size[1]):
            continue  # of the same size: taken as drawn upright
        buffer = io.BytesIO()
        mask.save(buffer, "PNG")
        image, labels = decode_pair(path.read_bytes(), buffer.getvalue(), path, path)
        assert np.array_equal(np.asarray(image)[..., 0], np.asarray(labels))


def test_a_mask_with_a_tag_of_its_own_is_turned_by_it(tmp_path: Path) -> None:
    for orientation in range(2, 9):
        path = tagged(picture(24, 24), tmp_path / "x.png", orientation)
        mask = tagged(Image.open(path).getchannel(0), tmp_path / "m.png", orientation)
        image, labels = decode_pair(path.read_bytes(), mask.read_bytes(), path, mask)
        assert np.array_equal(np.asarray(image)[..., 0], np.asarray(labels))


def test_which_size_a_mask_has() -> None:
    assert Frame("x.jpg", (30, 20), 6).fit((20, 30)) == "upright"
    assert Frame("x.jpg", (30, 20), 6).fit((30, 20)) == "stored"
    assert Frame("x.jpg", (30, 20), 3).fit((30, 20)) == "either"
    assert Frame("x.jpg", (30, 20), 6).fit((30, 30)) is None


def test_a_damaged_tag_is_told(tmp_path: Path) -> None:
    picture(8, 8).save(tmp_path / "x.jpg", exif=b"Exif\0\0junk")
    with pytest.raises(UserError, match=r"x\.jpg: its EXIF data cannot be read .*way is up"):
        read_image(tmp_path / "x.jpg")


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "CMYK", "1"])
def test_images_of_every_mode_become_rgb(tmp_path: Path, mode: str) -> None:
    drawn = picture(30, 20).convert(mode)
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    drawn.save(path)
    image = read_image(path)
    assert (image.mode, image.size) == ("RGB", (30, 20))
    if mode != "CMYK":
        assert np.array_equal(np.asarray(image), np.asarray(drawn.convert("RGB")))


def test_transparency_is_dropped(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    colour = picture(30, 20)
    clear = colour.copy()
    clear.putalpha(0)
    clear.save(tmp_path / "rgba.png")
    assert np.array_equal(np.asarray(read_image(tmp_path / "rgba.png")), np.asarray(colour))
    indexed = colour.quantize(8)
    indexed.save(tmp_path / "p.png", transparency=bytes(8))
    shown = np.asarray(read_image(tmp_path / "p.png"))
    assert np.array_equal(shown, np.asarray(indexed.convert("RGB")))
    assert not recwarn


@pytest.mark.parametrize("colour_type", [0, 2, 4, 6])
def test_of_16_bits_the_high_byte_counts(tmp_path: Path, colour_type: int) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    samples = np.random.default_rng(1).integers(0, 2**16, (9, 7, channels)).astype(">u2")
    samples[0, 0], samples[0, 1] = 0, 2**16 - 1
    rows = samples.reshape(9, -1).view(np.uint8)
    (tmp_path / "x.png").write_bytes(png(rows, 16, colour_type))
    colours = samples[..., : 3 if channels > 2 else 1]
    expected = np.broadcast_to((colours // 256).astype(np.uint8), (9, 7, 3))
    assert np.array_equal(np.asarray(read_image(tmp_path / "x.png")), expected)


def animated(path: Path) -> Path:
    frames = [picture(20, 20, seed) for seed in (1, 2)]
    frames[0].save(path, "PNG", save_all=True, append_images=frames[1:])
    return path


def test_an_animation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.png: an animated PNG"):
        read_image(animated(tmp_path / "a.png"))


def test_the_first_picture_of_a_telephones_jpeg_counts(tmp_path: Path) -> None:
    first = picture(40, 30, 1)
    first.save(tmp_path / "plain.jpg")
    first.save(tmp_path / "mpo.jpg", "MPO", save_all=True, append_images=[picture(20, 15, 2)])
    both = [np.asarray(read_image(tmp_path / name)) for name in ("plain.jpg", "mpo.jpg")]
    assert np.array_equal(*both)


@pytest.mark.parametrize("size", [(1, 300_000), (9000, 8000), (5000, 9), (60_000, 60_000)])
def test_absurd_sizes_are_refused_before_they_are_decoded(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    header = png(np.zeros((1, 1), np.uint8), 8, 0)
    ihdr = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    header = header[:16] + ihdr + struct.pack(">I", zlib.crc32(b"IHDR" + ihdr)) + header[33:]
    (tmp_path / "x.png").write_bytes(header)
    with warnings.catch_warnings(record=True) as caught:
        images.ignore_size_warnings()
        with pytest.raises(UserError, match=r"x\.png: .*64 megapixels"):
            read_image(tmp_path / "x.png")
    assert not caught


@pytest.mark.parametrize("name", ["junk.jpg", "missing.png", "cut.jpg", "cut.png", "picture.gif"])
def test_files_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "junk.jpg").write_bytes(b"junk")
    for cut in ("cut.jpg", "cut.png"):
        picture(90, 80).save(tmp_path / cut)
        content = (tmp_path / cut).read_bytes()
        (tmp_path / cut).write_bytes(content[: len(content) // 2])
    picture(9, 9).save(tmp_path / "picture.gif")
    with pytest.raises(UserError, match=name) as caught:
        read_image(tmp_path / name)
    assert "\n" not in str(caught.value)


UNTAGGED = Frame("x.jpg", (8, 4), 1)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_masks_of_few_grey_levels_are_refused(depth: int) -> None:
    """Pillow and OpenCV stretch them to 0..255; the file's own values are 0, 1, 2, ..."""
    data = png(np.zeros((4, depth), np.uint8), depth, 0)
    with pytest.raises(UserError, match=rf"m\.png: grey of {depth} bits?;"):
        decode_mask(data, Path("m.png"), UNTAGGED)


@pytest.mark.parametrize(("depth", "colour_type"), [(16, 0), (8, 2), (8, 4), (8, 6), (16, 2)])
def test_masks_of_other_kinds_are_refused(depth: int, colour_type: int) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    data = png(np.zeros((4, 8 * channels * depth // 8), np.uint8), depth, colour_type)
    with pytest.raises(UserError, match=r"m\.png: .*; a mask is a PNG with one 8-bit channel"):
        decode_mask(data, Path("m.png"), UNTAGGED)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_masks_with_a_palette_are_their_indices(depth: int) -> None:
    labels = np.random.default_rng(0).integers(0, 2**depth, (4, 8), dtype=np.uint8)
    bits = np.unpackbits(labels[..., None], axis=2)[..., 8 - depth :]
    colours = np.random.default_rng(0).integers(0, 256, 3 * 2**depth, dtype=np.uint8).tobytes()
    plte = struct.pack(">I", len(colours)) + b"PLTE" + colours
    plte += struct.pack(">I", zlib.crc32(b"PLTE" + colours))
    data = png(np.packbits(bits.reshape(4, -1), axis=1), depth, 3, plte)
    mask, fit = decode_mask(data, Path("m.png"), UNTAGGED)
    assert np.array_equal(np.asarray(mask), labels)
    assert fit == "either"


def test_a_mask_of_another_size_is_told() -> None:
    buffer = io.BytesIO()
    Image.new("L", (5, 4)).save(buffer, "PNG")
    with pytest.raises(UserError, match=r"m\.png: the mask is 5x4 but the image x.jpg is 4x8"):
        decode_mask(buffer.getvalue(), Path("m.png"), Frame("x.jpg", (8, 4), 6))


RED, GREEN = ((255, 0, 0), 1), ((0, 255, 0), 2)


@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_masks_in_colours(mode: str) -> None:
    labels = np.random.default_rng(0).integers(0, 2, (4, 8), dtype=np.uint8)
    drawn = Image.fromarray(np.array([RED[0], GREEN[0]], np.uint8)[labels])
    buffer = io.BytesIO()
    (drawn if mode == "RGB" else drawn.quantize(2)).save(buffer, "PNG")
    mask, _ = decode_mask(buffer.getvalue(), Path("m.png"), UNTAGGED, (RED, GREEN))
    assert mask.mode == "L"
    assert np.array_equal(np.asarray(mask), labels + 1)
    with pytest.raises(UserError, match=rf"m\.png: {labels.sum()} pixels have the colour 0,255,0"):
        decode_mask(buffer.getvalue(), Path("m.png"), UNTAGGED, (RED,))


@pytest.mark.parametrize(("depth", "colour_type"), [(16, 2), (8, 6), (8, 4)])
def test_masks_in_colours_of_other_kinds(depth: int, colour_type: int) -> None:
    channels = {2: 3, 4: 2, 6: 4}[colour_type]
    data = png(np.zeros((4, 8 * channels * depth // 8), np.uint8), depth, colour_type)
    with pytest.raises(UserError, match=r"m\.png: .*; a mask in colours is a PNG of 8-bit RGB"):
        decode_mask(data, Path("m.png"), UNTAGGED, (RED,))
