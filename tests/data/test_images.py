"""What becomes of every kind of image and mask file."""

import io
import struct
import warnings
import zlib
from contextlib import nullcontext
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
    with pytest.raises(UserError, match=r"a\.png: an animated picture"):
        read_image(animated(tmp_path / "a.png"))


def test_the_first_picture_of_a_telephones_jpeg_counts(tmp_path: Path) -> None:
    first = picture(40, 30, 1)
    first.save(tmp_path / "plain.jpg")
    first.save(tmp_path / "mpo.jpg", "MPO", save_all=True, append_images=[picture(20, 15, 2)])
    both = [np.asarray(read_image(tmp_path / name)) for name in ("plain.jpg", "mpo.jpg")]
    assert np.array_equal(*both)


def said_to_be(size: tuple[int, int]) -> bytes:
    """A PNG of another size than it says."""
    data = png(np.zeros((1, 1), np.uint8), 8, 0)
    ihdr = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    return data[:16] + ihdr + struct.pack(">I", zlib.crc32(b"IHDR" + ihdr)) + data[33:]


@pytest.mark.parametrize(
    ("size", "word"), [((9000, 8000), "corrupt"), ((30_000, 20_000), "512 megapixels")]
)
def test_images_to_predict_may_be_larger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], word: str
) -> None:
    """What passes is decoded."""
    (tmp_path / "x.png").write_bytes(said_to_be(size))
    decoded: list[Path] = []

    def decode(image: Image.Image, path: Path, what: str) -> None:
        decoded.append(path)
        raise UserError("corrupt")

    monkeypatch.setattr(images, "decode", decode)
    with pytest.raises(UserError, match=word):
        read_image(tmp_path / "x.png", images.LARGEST_TO_PREDICT)
    assert bool(decoded) == (word == "corrupt")


@pytest.mark.parametrize("size", [(1, 300_000), (9000, 8000), (5000, 9), (60_000, 60_000)])
def test_absurd_sizes_are_refused_before_they_are_decoded(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    (tmp_path / "x.png").write_bytes(said_to_be(size))
    with warnings.catch_warnings(record=True) as caught:
        images.ignore_size_warnings()
        with pytest.raises(images.TooLarge, match=r"x\.png: .*64 megapixels"):
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


@pytest.mark.parametrize(("depth", "colour_type"), [(8, 2), (8, 4), (8, 6), (16, 2)])
def test_masks_of_other_kinds_are_refused(depth: int, colour_type: int) -> None:
    channels = {2: 3, 4: 2, 6: 4}[colour_type]
    data = png(np.zeros((4, 8 * channels * depth // 8), np.uint8), depth, colour_type)
    with pytest.raises(UserError, match=r"m\.png: .*; a mask is a PNG or TIFF with one channel"):
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
    with pytest.raises(
        UserError, match=r"m\.png: .*; a mask in colours is a PNG or TIFF of 8-bit RGB"
    ):
        decode_mask(data, Path("m.png"), UNTAGGED, (RED,))


@pytest.mark.parametrize("kind", ["tif", "webp", "png"])
@pytest.mark.parametrize("orientation", [*range(1, 9), 77])
def test_kinds_of_images_are_upright_like_others(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    """The picture is turned by hand beforehand, so that its tag turns it back."""
    seen = picture(30, 20)
    back = {6: 8, 8: 6}.get(orientation, orientation)
    turn = images._TURNS.get(back)
    stored = seen.transpose(turn) if turn is not None else seen
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "webp" else {}
    stored.save(tmp_path / f"x.{kind}", exif=exif, **options)
    path = tmp_path / f"x.{kind}"
    assert np.array_equal(np.asarray(read_image(path)), np.asarray(seen))
    frame = images.frame_in(path)
    assert (frame.stored, frame.upright) == (stored.size, seen.size)
    labels = Image.fromarray(np.asarray(seen)[..., 0] // 16)
    for drawn in (labels, labels.transpose(turn) if turn is not None else labels):
        if drawn.size == seen.size and drawn is not labels:
            continue  # nothing tells that it is not upright
        drawn.save(tmp_path / "m.png")
        files = path.read_bytes(), (tmp_path / "m.png").read_bytes()
        image, mask = decode_pair(*files, path, tmp_path / "m.png")
        assert np.array_equal(np.asarray(image), np.asarray(seen))
        assert np.array_equal(np.asarray(mask), np.asarray(labels))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_masks_of_16_bits(tmp_path: Path, suffix: str, orientation: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (20, 30)).astype(np.uint16)
    turn = images._TURNS.get({6: 8, 8: 6}.get(orientation, orientation))
    drawn = Image.fromarray(values)
    stored = drawn if turn is None else drawn.transpose(turn)
    stored.save(tmp_path / f"m.{suffix}")
    frame = Frame("x.jpg", stored.size, orientation)
    data = (tmp_path / f"m.{suffix}").read_bytes()
    mask, fit = decode_mask(data, Path("m"), frame)
    assert mask.mode == "I;16"
    expected = values if fit == "stored" else np.asarray(stored)
    assert np.array_equal(np.asarray(mask), expected)


def test_a_mask_of_a_tiff_with_an_orientation_of_its_own(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 9, (20, 30), dtype=np.uint8)
    stored = Image.fromarray(values).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(tmp_path / "m.tif", exif=exif)
    data = (tmp_path / "m.tif").read_bytes()
    mask, fit = decode_mask(data, Path("m.tif"), Frame("x.jpg", (20, 30), 6))
    assert fit == "upright"
    assert np.array_equal(np.asarray(mask), values)


def test_grey_tiffs_of_16_bits_count_by_their_high_byte(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 65536, (5, 7)).astype(np.uint16)
    expected = (levels >> 8).astype(np.uint8)
    for order in ("<u2", ">u2"):
        Image.fromarray(levels.astype(order)).save(tmp_path / "x.tif")
        found = np.asarray(read_image(tmp_path / "x.tif"))
        assert np.array_equal(found, np.stack([expected] * 3, -1))
    Image.fromarray(65535 - levels).save(tmp_path / "w.tif", tiffinfo={262: 0})  # white is 0
    assert np.array_equal(np.asarray(read_image(tmp_path / "w.tif")), found)


def test_pages_and_reduced_copies_of_a_tiff(tmp_path: Path) -> None:
    first, second = picture(20, 16, 1), picture(10, 8, 2)
    reduced = second.copy()
    reduced.encoderinfo = {"tiffinfo": {254: 1}}
    first.save(tmp_path / "overview.tif", save_all=True, append_images=[reduced])
    assert np.array_equal(np.asarray(read_image(tmp_path / "overview.tif")), np.asarray(first))
    first.save(tmp_path / "pages.tif", save_all=True, append_images=[second])
    with pytest.raises(UserError, match=r"pages\.tif: a TIFF of several pages; keep one"):
        read_image(tmp_path / "pages.tif")


def test_a_tiff_of_thousands_of_reduced_copies_is_not_walked_through(tmp_path: Path) -> None:
    """A small file of them would keep a server busy for half a minute."""
    copies = [picture(10, 8) for _ in range(32)]
    for copy in copies:
        copy.encoderinfo = {"tiffinfo": {254: 1}}
    for number, told in ((31, None), (32, r"x\.tif: a TIFF of several pages; keep one")):
        picture(20, 16).save(tmp_path / "x.tif", save_all=True, append_images=copies[:number])
        with pytest.raises(UserError, match=told) if told else nullcontext():
            read_image(tmp_path / "x.tif")


def test_an_animated_webp(tmp_path: Path) -> None:
    picture(20, 20, 1).save(tmp_path / "a.webp", save_all=True, append_images=[picture(20, 20, 2)])
    with pytest.raises(UserError, match=r"a\.webp: an animated picture; keep one"):
        read_image(tmp_path / "a.webp")


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_tiffs_whose_range_is_not_known(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (6, 5)).save(tmp_path / "x.tif")
    with pytest.raises(UserError, match=rf"x\.tif: pixels of mode {mode}, whose range"):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize("kind", ["tif", "webp"])
def test_truncated_files_of_these_kinds(tmp_path: Path, kind: str) -> None:
    picture(90, 80).save(tmp_path / f"x.{kind}")
    content = (tmp_path / f"x.{kind}").read_bytes()
    (tmp_path / f"x.{kind}").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=rf"x\.{kind}: ") as caught:
        read_image(tmp_path / f"x.{kind}")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", [5, 255])
def test_a_tiff_with_a_wrong_byte_is_read_or_refused_in_one_line(
    tmp_path: Path, value: int
) -> None:
    """Any byte of its directories: sizes, compression, types and counts of tags, a reduced copy."""
    first, reduced = picture(7, 6).convert("L"), picture(5, 4).convert("L")
    reduced.encoderinfo = {"tiffinfo": {254: 1}}
    first.save(tmp_path / "x.tif", save_all=True, append_images=[reduced])
    whole, path, frame = (tmp_path / "x.tif").read_bytes(), Path("x.tif"), Frame("x", (7, 6), 1)
    read = 0
    for place in range(len(whole)):
        content = whole[:place] + bytes([value]) + whole[place + 1 :]
        try:
            images.decode_image(content, path)
            decode_mask(content, path, frame)
            read += 1
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017
    assert read > len(whole) / 3


def test_colours_of_more_than_254_classes() -> None:
    colours = tuple(((n % 256, n // 256, 7), n) for n in range(1, 1001))
    labels = np.random.default_rng(0).integers(1, 1001, (4, 8)).astype(np.uint16)
    drawn = np.stack([labels % 256, labels // 256, np.full_like(labels, 7)], -1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(drawn).save(buffer, "PNG")
    mask, _ = decode_mask(buffer.getvalue(), Path("m.png"), UNTAGGED, colours)
    assert np.array_equal(np.asarray(mask), labels)


def test_a_mask_that_is_not_there_is_not_in_colours(tmp_path: Path) -> None:
    assert not images.in_colours(tmp_path / "gone.png")
    picture(4, 4).save(tmp_path / "x.tif")
    assert images.in_colours(tmp_path / "x.tif")
