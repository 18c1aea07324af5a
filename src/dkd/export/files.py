"""Writing exported models, and running what was written."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dkd.errors import UserError
from dkd.export.description import INPUT, KEY, Description
from dkd.export.graph import Graph

OPSET = 18
"""Version of ONNX's operators: the first whose Resize takes what is needed here."""

EXTRA = f"{KEY}.json"
_DIMENSIONS = ("batch", "height", "width")

Running = Callable[[npt.NDArray[np.uint8]], npt.NDArray[Any]]


def write_onnx(graph: Graph, description: Description, path: Path) -> None:
    """An ONNX file, with its description in the metadata.

    Raises:
        UserError: the packages of the extra ``export`` are not installed.
    """
    require("onnx", "onnxscript")
    program = _program(graph)
    with _quietly():
        made = torch.onnx.export(
            program,
            dynamo=True,
            input_names=[INPUT],
            output_names=[description.gives],
            opset_version=OPSET,
            verbose=False,
        )
    assert made is not None
    model = made.model
    model.metadata_props.clear()
    model.metadata_props[KEY] = description.to_json()
    for node in model.graph.all_nodes():  # places in this machine's files
        node.metadata_props.clear()
    with _quietly():
        made.save(path, external_data=False)


def write_pt2(graph: Graph, description: Description, path: Path) -> None:
    """A program of ``torch.export``, with its description among the extra files."""
    with _quietly():
        torch.export.save(_program(graph), path, extra_files={EXTRA: description.to_json()})


def run_onnx(path: Path, threads: int) -> Running:
    """An ONNX file on ONNX Runtime's CPU.

    Raises:
        UserError: onnxruntime is not installed.
    """
    require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )

    def run(images: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        (found,) = session.run(None, {INPUT: images})
        return np.asarray(found)

    return run


def run_pt2(path: Path, threads: int) -> Running:
    """Likewise a program of ``torch.export``, in PyTorch."""
    torch.set_num_threads(threads)
    with _quietly():
        module = torch.export.load(path).module()

    def run(images: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        with torch.inference_mode():
            found: npt.NDArray[Any] = module(torch.from_numpy(images)).numpy()
        return found

    return run


def require(*packages: str) -> None:
    """Checks that optional packages are there.

    Raises:
        UserError: one is not.
    """
    for package in packages:
        if find_spec(package) is None:
            raise UserError(f"{package} is not installed; pip install 'dkd[export]'")


def _program(graph: Graph) -> torch.export.ExportedProgram:
    # One of each dimension is taken for a constant; batches, heights and widths vary.
    sample = torch.zeros(2, 90, 70, 3, dtype=torch.uint8)
    vary = dict.fromkeys(range(len(_DIMENSIONS)), torch.export.Dim.DYNAMIC)
    with _quietly(), torch.no_grad():
        return torch.export.export(graph.eval(), (sample,), dynamic_shapes=(vary,))


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporters' own talk."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
