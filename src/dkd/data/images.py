"""Image and mask files: one rule for kinds, sizes, modes and orientation, whoever opens them.

Scanning, loading, evaluation, exemplars and prediction read through this module, so what one of
them sees the others see.

* Images are JPEG, PNG, TIFF or WebP files of at most :data:`MAX_PIXELS` pixels, the long side at
  most :data:`MAX_ASPECT` times the short one. They become 8-bit RGB: of 16 bits the high byte
  counts, transparency is dropped (the colours under it count), CMYK is converted without a profile.
  Of a JPEG with several pictures (as telephones write them) the first counts, of a TIFF the one
  whose others are reduced copies; other files of several pictures are refused.
* Images are turned upright, as their EXIF orientation (in TIFF: the tag) says.
* Masks are PNG or TIFF files of one grey channel of 8 or 16 bits, or with a palette of 1 to 8 bits,
  whose index is the label value; where a data set says so, of 8-bit colours that stand for label
  values. They are drawn over the upright image, and have no orientation or one of their own. One
  that has the size of the image as it is stored, and not of the upright one, is turned with it.
"""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, TiffImagePlugin

from dkd.data.palettes import MaskColours
from dkd.errors import UserError
from dkd.scenario.tasks import VOID

MAX_PIXELS = 64 * 1024 * 1024
"""Images with more pixels are refused before they are decoded."""

LARGEST_TO_PREDICT = 512 * 1024 * 1024
"""Likewise of images that are only predicted, one at a time."""

MAX_ASPECT = 100
"""Nor are longer ones: with the short side resized for evaluation they would be huge."""

BATCH_PIXELS = 32 * 1024 * 1024
"""Most pixels, at their own size, of images that go together; one that has more goes alone."""


def at_a_time(most: int, width: int, height: int) -> int:
    """How many images of a size go together: at most so many, and never none."""
    return max(1, min(most, BATCH_PIXELS // (width * height)))


IMAGE_KINDS = ("JPEG", "PNG", "TIFF", "WEBP")
MASK_KINDS = ("PNG", "TIFF")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
MASK_SUFFIXES = (".png", ".tif", ".tiff")

# What takes the picture as it is stored to the upright one, by EXIF's orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
_DAMAGE = (
    *(OSError, ValueError, SyntaxError, EOFError, zlib.error, struct.error),
    *(TypeError, LookupError, ArithmeticError),  # of TIFF's tags, which may hold anything
)
_COLOURFUL = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")
"""Modes of pictures that become RGB by Pillow's own rules."""

_BITS, _PHOTOMETRIC, _SAMPLES, _SUBFILE = 258, 262, 277, 254  # TIFF's tags
_REDUCED_OR_MASK = 0b101  # of a TIFF's page, in its tag of the kind of sub-file
_MOST_PAGES = 32  # reduced copies, each half as large as the one before, and a mask of each
_PNG = b"\x89PNG\r\n\x1a\n"


def ignore_size_warnings() -> None:
    """Pillow warns where sizes are limited here, in a line of their own."""
    Image.MAX_IMAGE_PIXELS = LARGEST_TO_PREDICT // 2  # it refuses what has twice as many
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


ignore_size_warnings()


class TooLarge(UserError):  # noqa: N818 - says what the image is
    """An image has more pixels than are read, or is longer than that. It was not decoded."""


MaskFit = Literal["upright", "stored", "either"]
"""Which of an image's two sizes a mask has: the upright one's, the stored one's, or both."""


@dataclass(frozen=True)
class Frame:
    """How an image lies in its file.

    Attributes:
        name: of the file, for messages.
        stored: width and height in the file, in pixels.
        orientation: EXIF's, 1 (upright) to 8.
    """

    name: str
    stored: tuple[int, int]
    orientation: int

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height of the image as it is seen."""
        width, height = self.stored
        return (height, width) if self.orientation >= 5 else (width, height)

    def fit(self, mask: tuple[int, int]) -> MaskFit | None:
        """What a mask of this width and height fits; None for neither."""
        match mask == self.upright, mask == self.stored:
            case True, True:
                return "either"
            case True, False:
                return "upright"
            case False, True:
                return "stored"
        return None

    def turned(self, picture: Image.Image) -> Image.Image:
        """The upright picture of one that lies as the image does."""
        turn = _TURNS.get(self.orientation)
        return picture if turn is None else picture.transpose(turn)


def open_image(data: bytes, path: Path) -> ImageFile.ImageFile:
    """An image, not yet decoded.

    Args:
        data: the file's bytes.
        path: for messages.

    Raises:
        UserError: another kind of file, too large or too long, or of several pictures.
    """
    return _opened(io.BytesIO(data), path, IMAGE_KINDS)


def frame_of(image: Image.Image, path: Path, what: str = "image") -> Frame:
    """How an opened image (or mask) lies in its file; to be asked before it is decoded.

    Raises:
        UserError: its EXIF data cannot be read; of a PNG, which may have them at its end, that
            it is damaged too.
    """
    if image.format == "PNG":
        decode(image, path, what)
    try:
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            # Pillow turns it while it decodes, and tells the upright size before.
            orientation = image.tag_v2.get(_ORIENTATION, 1)
            turned = orientation in (5, 6, 7, 8)
            stored = image.size[::-1] if turned else image.size
            return Frame(path.name, stored, orientation if orientation in _TURNS else 1)
        exif = image.getexif()
        if _ORIENTATION not in exif and (raw := image.info.get("exif")):
            Image.Exif().load(raw)  # what was wrong with it when the file was opened is hidden
        orientation = exif.get(_ORIENTATION, 1)
    except _DAMAGE as error:
        raise UserError(
            f"{path}: its EXIF data cannot be read ({_why(error)}), so it is unknown which way is "
            "up; save the file again without them"
        ) from None
    # Other numbers mean nothing; programs that show photographs leave those as they are.
    return Frame(path.name, image.size, orientation if orientation in _TURNS else 1)


def read_image(path: Path, most_pixels: int = MAX_PIXELS) -> Image.Image:
    """A file as 8-bit RGB, upright.

    Args:
        path: the file.
        most_pixels: larger ones are refused.

    Raises:
        UserError: as :func:`read_file` and :func:`decode_image`.
    """
    data = io.BytesIO(read_file(path, "image"))
    return _upright(_opened(data, path, IMAGE_KINDS, most_pixels), path)[0]


def take_picture(picture: Image.Image, name: str, most_pixels: int = MAX_PIXELS) -> Image.Image:
    """A Pillow image of whatever origin as 8-bit RGB, upright, under the same rules as a file.

    Args:
        picture: opened from a file, or made.
        name: for messages.
        most_pixels: larger ones are refused.

    Raises:
        UserError: too large or too long, damaged, or of a mode whose values have no known range.
    """
    _require_size(picture, Path(name), most_pixels)
    odd = picture.mode.startswith("I;16") and picture.mode != "I;16" and picture.format != "TIFF"
    if picture.mode in ("I", "F") or odd:
        raise UserError(f"{name}: a Pillow image of mode {picture.mode}; convert it to RGB")
    return _upright(picture, Path(name))[0]


def frame_in(path: Path) -> Frame:
    """How an image lies in its file; only a PNG is read to its end.

    Raises:
        UserError: as :func:`read_file`, :func:`open_image` and :func:`frame_of`.
    """
    try:
        with path.open("rb") as file:
            return frame_of(_opened(file, path, IMAGE_KINDS), path)
    except FileNotFoundError:
        raise _missing(path, "image") from None
    except OSError as error:
        raise UserError(f"{path}: image cannot be read: {error.strerror}") from None


def decode_image(data: bytes, path: Path) -> Image.Image:
    """An image as 8-bit RGB, upright.

    Args:
        data: the file's bytes.
        path: for messages.

    Raises:
        UserError: as :func:`open_image` and :func:`frame_of`, or the image is damaged.
    """
    return _decode_image(data, path)[0]


def decode_mask(
    data: bytes, path: Path, frame: Frame, colours: MaskColours = ()
) -> tuple[Image.Image, MaskFit]:
    """A mask over the upright image: a picture of label values, and which size it had.

    Args:
        data: the file's bytes.
        path: for messages.
        frame: the image's.
        colours: what the mask's colours stand for; empty if it holds label values.

    Returns:
        The picture's mode is ``L`` or ``P``, or ``I;16`` where values have 16 bits.

    Raises:
        UserError: not a PNG or TIFF file of one channel of 8 or 16 bits (or of 8-bit colours),
            damaged, of another size, or with a colour that stands for nothing.
    """
    mask = _opened(io.BytesIO(data), path, MASK_KINDS)
    form, depth = _form(mask, data)
    if colours and (depth > 8 or form == "transparency"):
        told = "colours of 16 bits" if depth > 8 else form
        raise UserError(f"{path}: {told}; a mask in colours is a PNG or TIFF of 8-bit RGB")
    plain = (form == "palette" and depth <= 8) or (form == "grey" and depth in (8, 16))
    if not colours and not plain:
        # Decoders stretch grey of 1, 2 and 4 bits to 0..255: the values would be others.
        bits = "1 bit" if depth == 1 else f"{depth} bits"
        told = f"grey of {bits}" if form == "grey" else f"{mask.mode} pixels"
        raise UserError(
            f"{path}: {told}; a mask is a PNG or TIFF with one channel of label values (grey of 8 "
            "or 16 bits, or a palette)"
        )
    own = frame_of(mask, path, "mask")
    fit = frame.fit(own.upright)
    if fit is None:
        raise UserError(
            f"{path}: the mask is {_by(own.upright)} but the image {frame.name} is "
            f"{_by(frame.upright)}; make them the same size"
        )
    if own.orientation != 1:  # it says itself which way is up
        if fit == "stored":
            raise UserError(f"{path}: its EXIF orientation is not its image's; write it upright")
        fit = "upright"
    decode(mask, path, "mask")
    if colours:
        values = _values(mask, path, colours)
    elif depth == 16:
        values = _picture(np.asarray(mask))
    else:
        values = mask
    if own.orientation != 1:
        return _turned(values, own, mask), fit
    return (frame.turned(values) if fit == "stored" else values), fit


def _form(mask: ImageFile.ImageFile, data: bytes) -> tuple[str, int]:
    """What a mask's pixels are (grey, palette, colours, transparency, ...), and bits of each."""
    if isinstance(mask, TiffImagePlugin.TiffImageFile):
        bits, samples = mask.tag_v2.get(_BITS, (1,)), mask.tag_v2.get(_SAMPLES, 1)
        forms = {(1, 1): "grey", (3, 1): "palette", (2, 3): "colours", (2, 4): "transparency"}
        kind = mask.tag_v2.get(_PHOTOMETRIC, -1)
        return forms.get((kind, samples), "others"), max(bits)
    depth, colour_type = data[24], data[25]  # of IHDR, which comes first
    return {0: "grey", 2: "colours", 3: "palette"}.get(colour_type, "transparency"), depth


def _picture(values: npt.NDArray[np.integer[Any]]) -> Image.Image:
    """Label values as a picture of 8 bits, or of 16 where they have as many."""
    return Image.fromarray(values.astype(np.uint8 if values.dtype == np.uint8 else "<u2"))


def in_colours(mask: Path) -> bool:
    """Whether a mask's file is of colours, rather than of grey or with a palette."""
    try:
        with Image.open(mask, formats=MASK_KINDS) as opened:
            return opened.mode in ("RGB", "RGBA")
    except (*_DAMAGE, Image.DecompressionBombError):
        return False  # the scan says why


def _values(mask: Image.Image, path: Path, colours: MaskColours) -> Image.Image:
    """The label values of a mask in colours."""
    levels = np.asarray(mask.convert("RGB")).astype(np.int32)
    codes = levels[..., 0] << 16 | levels[..., 1] << 8 | levels[..., 2]
    table = _value_by_code(colours)
    values = table[codes]
    unknown = codes[values < 0]
    if unknown.size:
        code = int(unknown[0])
        count = int((unknown == code).sum())
        colour = ",".join(str(code >> shift & 255) for shift in (16, 8, 0))
        raise UserError(
            f"{path}: {count} pixels have the colour {colour}, which belongs to no class; "
            "correct the mask or name the colour"
        )
    return _picture(values.astype(np.uint8 if table.dtype == np.int16 else np.uint16))


@lru_cache(maxsize=2)
def _value_by_code(colours: MaskColours) -> npt.NDArray[np.integer[Any]]:
    """The label value of every colour; -1 is none."""
    wide = max(value for _, value in colours) > VOID
    table: npt.NDArray[np.integer[Any]] = np.full(2**24, -1, np.int32 if wide else np.int16)
    for (red, green, blue), value in colours:
        table[red << 16 | green << 8 | blue] = value
    return table


def decode_pair(
    image: bytes, mask: bytes, image_path: Path, mask_path: Path, colours: MaskColours = ()
) -> tuple[Image.Image, Image.Image]:
    """An image, as :func:`decode_image` has it, and its mask, as :func:`decode_mask` has it."""
    picture, frame = _decode_image(image, image_path)
    return picture, decode_mask(mask, mask_path, frame, colours)[0]


def decode(image: Image.Image, path: Path, what: str) -> None:
    """Decodes what is opened; once is enough.

    Raises:
        UserError: it is damaged.
    """
    try:
        image.load()
    except _DAMAGE as error:
        raise _corrupt(path, what, error) from None


def verify(data: bytes, path: Path, what: str) -> None:
    """Checks all of a PNG file; decoding stops at the last pixel, whatever comes after.

    Files of other kinds pass: decoding them is all that can be done.

    Raises:
        UserError: it is damaged.
    """
    if not data.startswith(_PNG):
        return
    try:
        Image.open(io.BytesIO(data), formats=("PNG",)).verify()
    except _DAMAGE as error:
        raise _corrupt(path, what, error) from None


def read_file(path: Path, what: str) -> bytes:
    """The bytes of a file.

    Args:
        path: the file.
        what: it is, for messages: image or mask.

    Raises:
        UserError: it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _missing(path, what) from None
    except OSError as error:
        raise UserError(f"{path}: {what} cannot be read: {error.strerror}") from None


def _missing(path: Path, what: str) -> UserError:
    return UserError(f"{path}: the {what} is missing; add it or take it off the list")


def _opened(
    file: IO[bytes], path: Path, kinds: tuple[str, ...], most_pixels: int = MAX_PIXELS
) -> ImageFile.ImageFile:
    try:
        image = Image.open(file, formats=kinds)
    except Image.DecompressionBombError:
        raise TooLarge(
            f"{path}: far too many pixels; images up to {most_pixels >> 20} megapixels are read"
        ) from None
    except _DAMAGE:
        *others, last = ("WebP" if kind == "WEBP" else kind for kind in kinds)
        told = f"{', '.join(others)} or {last}"
        raise UserError(f"{path}: not a {told} file; replace it") from None
    _require_size(image, path, most_pixels)
    try:
        several = _holds_several(image)
    except _DAMAGE as error:
        raise _corrupt(path, "picture", error) from None
    if several:
        what = "a TIFF of several pages" if image.format == "TIFF" else "an animated picture"
        raise UserError(f"{path}: {what}; keep one of its pictures")
    return image


def _holds_several(image: ImageFile.ImageFile) -> bool:
    """Whether a file holds other pictures than the first, and not only reduced copies of it."""
    if image.format in ("JPEG", "MPO"):
        return False
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return getattr(image, "n_frames", 1) > 1
    for page in range(1, _MOST_PAGES + 1):  # how many there are would be counted one by one
        try:
            image.seek(page)
        except EOFError:
            image.seek(0)
            return False
        if not image.tag_v2.get(_SUBFILE, 0) & _REDUCED_OR_MASK:
            return True
    return True


def _require_size(image: Image.Image, path: Path, most_pixels: int) -> None:
    long, short = max(image.size), min(image.size)
    if short == 0 or long * short > most_pixels or long > MAX_ASPECT * short:
        raise TooLarge(
            f"{path}: {image.width}x{image.height} pixels; images up to {most_pixels >> 20} "
            f"megapixels and {MAX_ASPECT} times as long as wide are read"
        )


def _decode_image(data: bytes, path: Path) -> tuple[Image.Image, Frame]:
    return _upright(open_image(data, path), path)


def _upright(image: Image.Image, path: Path) -> tuple[Image.Image, Frame]:
    frame = frame_of(image, path)
    decode(image, path, "image")
    return _turned(_rgb(image, path), frame, image), frame


def _turned(picture: Image.Image, frame: Frame, source: Image.Image) -> Image.Image:
    """The upright picture of one that was made of a decoded file."""
    # Pillow has turned a TIFF already.
    return picture if source.format == "TIFF" else frame.turned(picture)


def _rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):  # Pillow itself takes the high byte of 16-bit colours
        return _picture((_of_16_bits(image, path) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode not in _COLOURFUL:
        raise UserError(
            f"{path}: pixels of mode {image.mode}, whose range is not known; convert it to grey or "
            "RGB of 8 or 16 bits"
        )
    if image.mode == "RGBa" or isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # else Pillow warns that transparency is dropped, or refuses
    return image.convert("RGB")


def _of_16_bits(image: Image.Image, path: Path) -> npt.NDArray[np.uint16]:
    """The levels of a grey image of 16 bits."""
    levels = np.asarray(image).astype(np.uint16)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        if (bits := max(image.tag_v2.get(_BITS, (16,)))) != 16:
            raise UserError(f"{path}: grey of {bits} bits; convert it to 8 or 16 bits")
        if image.tag_v2.get(_PHOTOMETRIC) == 0:  # white is 0: only of 8 bits Pillow turns it round
            return 65535 - levels
    return levels


def _corrupt(path: Path, what: str, error: Exception) -> UserError:
    return UserError(f"{path}: {what} cannot be read: it is corrupt ({_why(error)}); replace it")


def _why(error: Exception) -> str:
    return " ".join(str(error).split())


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
