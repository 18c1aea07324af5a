"""The made weights that the reference figures of whole networks were computed with."""

import zlib

import numpy as np
import torch
from torch import nn


def made_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights by the rule that tests/reference/README.md gives for the golden files."""
    state = {}
    for key, value in model.state_dict().items():
        rng = np.random.default_rng(zlib.crc32(key.encode()))
        shape = tuple(value.shape)
        if key.endswith("num_batches_tracked"):
            made = np.zeros(shape)
        elif key.endswith("running_mean"):
            made = rng.normal(0, 0.1, shape)
        elif key.endswith("running_var"):
            made = rng.uniform(0.8, 1.2, shape)
        elif len(shape) == 4:
            made = rng.normal(0, np.sqrt(2 / (shape[1] * shape[2] * shape[3])), shape)
        elif key.endswith("bias"):
            made = rng.normal(0, 0.05, shape)
        else:
            made = rng.uniform(0.4, 0.6, shape)
        state[key] = torch.from_numpy(np.asarray(made)).to(value.dtype)
    return state
