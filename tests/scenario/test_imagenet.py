"""The table of ImageNet weights against torchvision's own."""

import pytest
import torchvision

from dkd.scenario import imagenet
from dkd.scenario.backbones import OUTPUT_STRIDES


@pytest.mark.parametrize("backbone", [each for each in OUTPUT_STRIDES if each != "demo"])
def test_addresses_are_torchvisions(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DKD_WEIGHTS_URL", raising=False)
    theirs = torchvision.models.get_model_weights(backbone)["IMAGENET1K_V1"].url
    assert imagenet.address(backbone) == theirs
    promised = imagenet.digest_in_name(imagenet.FILES[backbone])
    assert theirs.endswith(f"-{promised}.pth")


def test_a_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DKD_WEIGHTS_URL", "http://mirror/models/")
    assert imagenet.address("resnet18") == "http://mirror/models/resnet18-f37072fd.pth"


@pytest.mark.parametrize(
    "name", ["mine.pth", "mine-20240611.pth", "resnet18.pth", "resnet18-1.pth"]
)
def test_other_names_promise_nothing(name: str) -> None:
    assert imagenet.digest_in_name(name) == ""
