"""torchvision's ImageNet weights (its ``IMAGENET1K_V1``): each backbone's file, and where it is.

A file's name carries the first eight digits of its sha256, as torchvision names its files.
"""

import os
import re

ADDRESS = "https://download.pytorch.org/models/"
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's statistics, of RGB in [0, 1] (torchvision's weights were trained with them)."""
MIRROR = "DKD_WEIGHTS_URL"
"""Environment variable with the address of a folder that holds the same files."""

FILES = {
    "resnet101": "resnet101-63fe2227.pth",
    "resnet152": "resnet152-394f9c45.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet18": "resnet18-f37072fd.pth",
    "mobilenet_v2": "mobilenet_v2-b0353104.pth",
}
"""By backbone; the demonstration's own backbone was never trained on ImageNet."""

_NAMED_BY_DIGEST = re.compile(rf"(?:{'|'.join(FILES)})-([0-9a-f]{{8}})\.pth")


def address(backbone: str) -> str:
    """Where a backbone's file is fetched from: torchvision's address, or the mirror's."""
    base = os.environ.get(MIRROR) or ADDRESS
    return f"{base.rstrip('/')}/{FILES[backbone]}"


def digest_in_name(name: str) -> str:
    """The first digits of the sha256 that a file's name promises; empty for other names."""
    match = _NAMED_BY_DIGEST.fullmatch(name)
    return match[1] if match else ""
