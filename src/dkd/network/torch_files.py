"""Files of ``torch.save``: tensors by name, and nothing that would run when they are read."""

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dkd.errors import UserError


def read(path: Path, name: str = "") -> Any:
    """What a ``.pth`` file holds, on the CPU; code in it is refused, not run.

    Args:
        path: the file.
        name: what messages call it; its path by default.

    Raises:
        UserError: it is damaged, or holds something else than tensors in plain containers.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (
        *(OSError, RuntimeError, EOFError, LookupError, ValueError, AttributeError, TypeError),
        pickle.UnpicklingError,
    ) as error:
        if kind := re.search(r"Unsupported global: GLOBAL ([\w.]+)", str(error)):
            # torchvision's training script saves its arguments beside the model.
            alone = "content['model']" if kind[1] == "argparse.Namespace" else "model.state_dict()"
            raise UserError(
                f"{name or path}: not a checkpoint of plain tensors: it holds {kind[1]}, and "
                f"nothing in it was run; save {alone} alone, with torch.save in the program that "
                "wrote it"
            ) from None
        reason = " ".join(str(error).strip().split("\n")[0].split())[:200]
        raise UserError(
            f"{name or path}: not a checkpoint of plain tensors, and nothing in it was run: "
            f"{reason or type(error).__name__}"
        ) from None


def tensors(content: Any, name: str) -> dict[str, Tensor]:
    """The content as tensors by name.

    Raises:
        UserError: it is something else.
    """
    if not isinstance(content, dict) or not content:
        raise UserError(f"{name}: no tensors by name in it")
    for key, tensor in content.items():
        if not (isinstance(key, str) and isinstance(tensor, Tensor)):
            raise UserError(f"{name}: entry {key!r} is not a tensor with a name")
    return dict(content)
