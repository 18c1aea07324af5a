"""Kernels of a GPU, in Triton, for what PyTorch's own functions read and write too often.

Each module holds the kernels of one thing and the function that calls them; the plain form, which
every device has, stands with its caller. Triton comes with PyTorch for NVIDIA GPUs, so a module
here is imported only where there is one, or in Triton's interpreter by the tests. It compiles a
kernel when that is first called, for which it needs a C compiler and Python's headers
(:func:`missing`).
"""

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path

from dkd.storage.cache import cache_folder


def keep() -> None:
    """Keeps what is compiled between processes: a later step's job finds an earlier one's."""
    os.environ.setdefault("TRITON_CACHE_DIR", str(cache_folder() / "triton"))


def missing() -> str | None:
    """What keeps the kernels from being compiled here, as words; None if nothing does."""
    if importlib.util.find_spec("triton") is None:
        return "no package triton"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "no C compiler (gcc, clang, or CC)"
    if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        return "no Python.h (the distribution's package of Python's headers)"
    return None
