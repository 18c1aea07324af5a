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
    "mobilenet_v3_large": "mobilenet_v3_large-8738ca79.pth",
    "swin_t": "swin_t-704ceda3.pth",
    "swin_s": "swin_s-5e29d889.pth",
    "swin_b": "swin_b-68c6b09e.pth",
    "swin_v2_t": "swin_v2_t-b137f0e2.pth",
    "swin_v2_s": "swin_v2_s-637d8ceb.pth",
    "swin_v2_b": "swin_v2_b-781e5279.pth",
    "convnext_tiny": "convnext_tiny-983f1562.pth",
    "convnext_base": "convnext_base-6075fbad.pth",
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
