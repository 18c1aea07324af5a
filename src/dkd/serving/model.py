"""The model that is served, and the images that it is given."""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from dkd import storage
from dkd.data.channels import Channels
from dkd.data.images import MAX_ASPECT, TooLarge, decode_image, open_image
from dkd.errors import UserError
from dkd.export.description import INPUT, KEY, from_json
from dkd.storage.cache import artifact_cache
from dkd.storage.files import placed
from dkd.storage.store import Damaged

Pixels = npt.NDArray[np.uint8]
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*")


class RequestRefused(Exception):  # noqa: N818 - read as a sentence where it is raised
    """A request that is not served: an HTTP status and one line for whoever sent it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class ExportedModel:
    """An exported model in ONNX Runtime.

    Args:
        data: the file's bytes.
        source: where it is from, for messages.
        threads: that one image may use.

    Attributes:
        description: what it says of itself.
        sha256: of the file.

    Raises:
        UserError: it is no model that ``dkd export`` wrote, or gives no masks.
    """

    def __init__(self, data: bytes, source: str, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # it has a class of its own for every fault
            why = " ".join(str(error).split())[:200]
            raise UserError(f"{source}: not a model that ONNX Runtime can run ({why})") from None
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.description = from_json(metadata.get(KEY, "{}"), source)
        self.sha256 = hashlib.sha256(data).hexdigest()
        if self.description.gives != "mask":
            raise UserError(
                f"{source}: gives {self.description.gives}; export it with --gives mask"
            )

    def masks(self, images: Pixels) -> Channels:
        """RGB ``N x H x W x 3`` to channel numbers ``N x H x W``."""
        (found,) = self._session.run(None, {INPUT: np.ascontiguousarray(images)})
        masks: Channels = found
        return masks


def load(uri: str, sha256: str | None, threads: int) -> ExportedModel:
    """The model at a URI, verified, downloaded once per machine.

    Args:
        uri: of the file.
        sha256: what its digest must be; None takes what is there.
        threads: as for :class:`ExportedModel`.

    Raises:
        UserError: nothing is there, or it has another digest, or as :class:`ExportedModel`.
    """
    kept = None if sha256 is None else artifact_cache() / "models" / sha256
    if kept is not None and kept.is_file() and storage.file_sha256(kept) == sha256:
        return ExportedModel(kept.read_bytes(), uri, threads)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        try:
            storage.download(uri, path, sha256=sha256)
        except Damaged:
            raise UserError(
                f"{uri}: its sha256 is not {sha256}; give the one that `dkd export` printed of it"
            ) from None
        data = path.read_bytes()
    if kept is not None:
        with placed(kept, durable=False) as partial:
            partial.write_bytes(data)
    return ExportedModel(data, uri, threads)


def pixels_of(data: bytes, most_pixels: int) -> Pixels:
    """An image file as RGB ``H x W x 3``, upright. Its size is known before it is decoded.

    Raises:
        RequestRefused: it is no image that is read (415), too large (413), or damaged (400).
    """
    name = Path("image")
    if not data.startswith(_SIGNATURES) and (data[:4], data[8:12]) != (b"RIFF", b"WEBP"):
        raise RequestRefused(415, "not a JPEG, PNG, TIFF or WebP file; send one")
    try:
        width, height = open_image(data, name).size
    except UserError as error:
        status = 413 if isinstance(error, TooLarge) else 400
        raise RequestRefused(status, str(error)) from None
    if width * height > most_pixels:
        raise RequestRefused(413, f"{width}x{height} pixels; at most {most_pixels} are served")
    try:
        return np.asarray(decode_image(data, name))
    except UserError as error:
        raise RequestRefused(400, str(error)) from None


def tensor_of(name: Any, datatype: Any, shape: Any, values: Any, most_pixels: int) -> Pixels:
    """A tensor of the protocol as images ``N x H x W x 3``.

    Args:
        name: of the input.
        datatype: of the protocol.
        shape: a sequence of numbers.
        values: bytes, or numbers in the order of rows, flat or nested.
        most_pixels: of all images together.

    Raises:
        RequestRefused: it is not what the model takes (400), or too large (413).
    """
    if name != INPUT or datatype != "UINT8":
        raise RequestRefused(400, f"input {name!r} of {datatype!r}; give {INPUT!r} of 'UINT8'")
    sides = list(shape) if isinstance(shape, list | tuple) else []
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    if len(sides) != 4 or not whole or sides[3] != 3 or min(sides) < 1:
        raise RequestRefused(400, f"shape {sides}; give [images, height, width, 3]")
    pixels = sides[0] * sides[1] * sides[2]
    long, short = max(sides[1:3]), min(sides[1:3])
    if pixels > most_pixels or long > MAX_ASPECT * short:
        raise RequestRefused(
            413, f"shape {sides}; at most {most_pixels} pixels are served, {MAX_ASPECT} by 1"
        )
    if isinstance(values, bytes):
        flat = np.frombuffer(values, np.uint8)
    else:
        try:
            numbers = np.asarray(values)
            if numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() > 255:
                raise ValueError
            flat = numbers.reshape(-1).astype(np.uint8)
        except (ValueError, TypeError, OverflowError):
            raise RequestRefused(
                400, f"data of {INPUT!r}: give whole numbers from 0 to 255"
            ) from None
    if flat.size != pixels * 3:
        raise RequestRefused(400, f"data of {INPUT!r}: {flat.size} values for shape {sides}")
    return flat.reshape(sides)
