"""From a checkpoint to a file for other programs, which is compared before it is there."""

import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from dkd import storage
from dkd.data import transforms
from dkd.data.channels import Channels
from dkd.data.images import read_image
from dkd.errors import UserError
from dkd.evaluation.segmenter import Segmenter
from dkd.export import files
from dkd.export.description import Description, ExportPrecision, Gives, describe
from dkd.export.graph import Graph, by_matrices, natively
from dkd.export.windows import replace_windows
from dkd.network.checkpoint import Fetched
from dkd.network.deeplab import Reading, SegmentationModel
from dkd.network.folding import fold_teacher
from dkd.network.prediction import predict

ExportFormat = Literal["onnx", "pt2"]
LEAST_EQUAL: dict[ExportPrecision, float] = {"fp32": 0.9999, "fp16": 0.99}
"""Share of pixels in which masks must be equal."""

_REPEATS = 3


@dataclass(frozen=True)
class Agreement:
    """A photograph segmented by the checkpoint and by what was exported.

    Attributes:
        name: of the photograph.
        size: its width and height.
        differ: pixels whose classes differ.
        seconds: CPU time on one thread, of PyTorch with the checkpoint.
        exported_seconds: likewise of the exported model.
    """

    name: str
    size: tuple[int, int]
    differ: int
    seconds: float
    exported_seconds: float

    @property
    def pixels(self) -> int:
        """Of the photograph."""
        return self.size[0] * self.size[1]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        target: where.
        sha256: of the file.
        size: of it, in bytes.
        description: what it says of itself.
        comparisons: by photograph.
    """

    target: str
    sha256: str
    size: int
    description: Description
    comparisons: tuple[Agreement, ...]

    @property
    def equal(self) -> float:
        """Share of pixels with the same class."""
        return 1 - sum(c.differ for c in self.comparisons) / sum(c.pixels for c in self.comparisons)

    @property
    def speedup(self) -> float:
        """How many times faster than PyTorch, in CPU time on one thread."""
        return sum(c.seconds for c in self.comparisons) / sum(
            c.exported_seconds for c in self.comparisons
        )


def export(
    checkpoint: Fetched,
    target: str,
    *,
    form: ExportFormat,
    photographs: Sequence[Path],
    gives: Gives = "mask",
    precision: ExportPrecision = "fp32",
    tell: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Writes a model as one file, unless it does not do what the checkpoint does.

    Args:
        checkpoint: the model and what it says of itself; it stays as it is.
        target: file or URI, where nothing may be yet.
        form: of the file.
        photographs: images on which both are compared.
        gives: masks of whole images, or logits of resized ones.
        precision: that the network computes in.
        tell: called with a line about what comes next.

    Raises:
        UserError: something is there, a photograph cannot be read, the packages of the extra
            ``export`` are missing, or masks differ too much. Nothing is written then.
    """
    require_absent(target)
    if gives == "logits" and checkpoint.model.reading.classes:
        raise UserError("--gives logits: several channels make one class; use --gives mask")
    pictures = [(path.name, read_image(path)) for path in photographs]
    description = _description(checkpoint, gives, precision)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        tell("tracing the model")
        _write(checkpoint.model, description, form, path)
        tell("comparing it with the checkpoint")
        comparisons = compare(checkpoint, description, form, path, pictures)
        made = Exported(
            target,
            storage.file_sha256(path),
            path.stat().st_size,
            description,
            tuple(comparisons),
        )
        if made.equal < LEAST_EQUAL[precision]:
            worst = max(comparisons, key=lambda each: each.differ / each.pixels)
            raise UserError(
                f"{target}: not written: masks differ in {1 - made.equal:.3%} of the pixels (most "
                f"in {worst.name}), at most {1 - LEAST_EQUAL[precision]:.2%} may"
            )
        if not storage.write_bytes(target, path.read_bytes(), if_absent=True):
            raise _exists(target)
    return made


def require_absent(target: str) -> None:
    """Checks that nothing would be overwritten.

    Raises:
        UserError: something is there.
    """
    local = storage.is_local(target)  # where a folder is in the way, too
    if storage.local_path(target).exists() if local else storage.exists(target):
        raise _exists(target)


def bundled_photographs() -> tuple[Path, ...]:
    """Two photographs that come with scikit-learn.

    Raises:
        UserError: it is not installed.
    """
    found = find_spec("sklearn")
    if found is None or found.origin is None:
        raise UserError(
            "no photographs to compare the models on: give some with --check-images, or "
            "pip install 'dkd[demo]', which brings two"
        )
    folder = Path(found.origin).parent / "datasets" / "images"
    return tuple(folder / name for name in ("china.jpg", "flower.jpg"))


def _write(
    model: SegmentationModel, description: Description, form: ExportFormat, path: Path
) -> None:
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    fold_teacher(folded)
    for module in folded.modules():
        if isinstance(module, nn.ReLU | nn.ReLU6):
            module.inplace = False  # what changes its input takes twice as long to trace
    replace_windows(folded)
    graph = Graph(
        folded,
        description.short_side,
        mask=description.gives == "mask",
        half=description.precision == "fp16",
        resize=by_matrices if form == "onnx" else natively,
    )
    (files.write_onnx if form == "onnx" else files.write_pt2)(graph, description, path)


def _description(checkpoint: Fetched, gives: Gives, precision: ExportPrecision) -> Description:
    said = checkpoint.description
    network = checkpoint.model.network
    mean, std = network.normalisation
    return describe(
        said["classes"],
        gives=gives,
        dataset=str(said["dataset"]["name"]),
        checkpoint=checkpoint.digest,
        short_side=int(said["training"]["crop"]),
        mean=mean,
        std=std,
        precision=precision,
        stride=network.stride,
        align_corners=checkpoint.model.reading.align_corners,
    )


def compare(
    checkpoint: Fetched,
    description: Description,
    form: ExportFormat,
    path: Path,
    pictures: Sequence[tuple[str, Image.Image]],
) -> list[Agreement]:
    """Segments photographs with both, on one thread.

    Args:
        checkpoint: the model.
        description: of the exported one.
        form: of its file.
        path: its file.
        pictures: RGB, by name.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run = (files.run_onnx if form == "onnx" else files.run_pt2)(path, 1)
        segmenter = Segmenter(checkpoint, torch.device("cpu"))
        found = []
        for name, picture in pictures:
            pixels = np.array(picture)
            expected, seconds = _timed(partial(_mask, segmenter, pixels))
            mask, exported = _timed(partial(mask_of, run, description, pixels))
            differ = int((expected != mask).sum())
            found.append(Agreement(name, picture.size, differ, seconds, exported))
        return found
    finally:
        torch.set_num_threads(before)


def _mask(segmenter: Segmenter, pixels: npt.NDArray[np.uint8]) -> Channels:
    return segmenter.predict(pixels).mask


def mask_of(
    run: files.Running, description: Description, pixels: npt.NDArray[np.uint8]
) -> Channels:
    """The mask H x W of an image H x W x 3, also where the exported model gives logits."""
    if description.gives == "mask":
        return cast(Channels, run(pixels[None])[0])
    height, width = pixels.shape[:2]
    short = min(height, width)
    h, w = (description.short_side * side // short for side in (height, width))
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    resized = transforms.resize(image, h, w).permute(1, 2, 0).contiguous()
    logits = torch.from_numpy(run(resized.numpy()[None]))
    reading = Reading(description.align_corners)
    whole = torch.cat([logits[:, :1], logits], dim=1)  # the first channel takes no part
    found: Channels = predict(whole, (height, width), reading=reading)[0].numpy()
    return found


def _timed(
    work: Callable[[], Channels],
) -> tuple[Channels, float]:
    result, least = work(), float("inf")
    for _ in range(_REPEATS):
        started = time.process_time()
        result = work()
        least = min(least, time.process_time() - started)
    return result, least


def _exists(target: str) -> UserError:
    return UserError(f"{target}: exists already; give another name, nothing is overwritten")
