"""A small model of random weights that sees every class somewhere, and pictures for it."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dkd.evaluation.segmenter import Segmenter
from dkd.network import checkpoint, deeplab
from dkd.scenario.network import Network
from dkd.storage import artifacts

NETWORK = Network(backbone="demo", aspp_channels=16)
DESCRIPTION = {
    "classes": [["cat", "dog"], ["sheep"]],
    "dataset": {"name": "voc"},
    "network": NETWORK.model_dump(),
    "training": {"crop": 32},
}


def image(path: Path, width: int, height: int, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(small).resize((width, height)).save(path)
    return path


def noise() -> torch.Tensor:
    return torch.randn(1, 3, 32, 40, generator=torch.Generator().manual_seed(0))


def model(seed: int = 0) -> deeplab.SegmentationModel:
    torch.manual_seed(seed)
    made = deeplab.build(NETWORK, [2, 1]).eval()
    with torch.no_grad():  # so that every class and background is seen somewhere
        logits = made(noise()).logits[:, 1:]
        for head, channels in zip(made.cls[1:], logits.split([2, 1], dim=1), strict=True):
            head.bias -= channels.mean(dim=(0, 2, 3))
    return made


def segmenter(seed: int = 0, digest: str = "0" * 64) -> Segmenter:
    fetched = checkpoint.Fetched(model(seed), DESCRIPTION, digest)
    return Segmenter(fetched, torch.device("cpu"))


def published(uri: str, work: Path, seed: int = 0) -> str:
    """The model as a checkpoint at a URI."""
    work.mkdir(parents=True, exist_ok=True)
    parts = checkpoint.write(work, model(seed), DESCRIPTION)
    return artifacts.publish(uri, parts, kind="checkpoint", metadata={}).uri
