"""Initial backbone weights: every form of file, and every way in which one does not fit."""

from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.transforms.v2.functional import normalize, pil_to_tensor, resize

from dkd.errors import UserError
from dkd.network import pretrained
from dkd.network.deeplab import SegmentationModel, build
from dkd.scenario.network import Network

TORCHVISION = {
    "resnet18": torchvision.models.resnet18,
    "mobilenet_v2": torchvision.models.mobilenet_v2,
}


def model(backbone: str) -> SegmentationModel:
    return build(Network(backbone=backbone, aspp_channels=8), [2])


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A ResNet-18 file as torchvision's would be."""
    path = tmp_path / "resnet18.safetensors"
    save_file(torchvision.models.resnet18().state_dict(), path)
    return path


@pytest.mark.parametrize("backbone", TORCHVISION)
def test_torchvisions_weights_load(backbone: str, tmp_path: Path) -> None:
    state = TORCHVISION[backbone]().state_dict()
    save_file(state, tmp_path / "w.safetensors")
    ours = model(backbone)
    before = {k: v.clone() for k, v in ours.state_dict().items()}
    pretrained.load(ours, tmp_path / "w.safetensors")
    loaded = ours.backbone.state_dict()
    assert len(loaded) > 60
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())
    after = ours.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items() if k.startswith(("aspp", "cls")))


def test_half_precision_becomes_float(published: Path) -> None:
    state = load_file(published)
    save_file({k: v.half() if v.ndim == 4 else v for k, v in state.items()}, published)
    ours = model("resnet18")
    pretrained.load(ours, published)
    assert ours.backbone.conv1.weight.dtype == torch.float32
    assert torch.equal(ours.backbone.conv1.weight, state["conv1.weight"].half().float())


def test_integers_are_scaled(published: Path) -> None:
    state = load_file(published)
    whole = torch.randint(-127, 128, state["conv1.weight"].shape, dtype=torch.int8)
    scale = torch.rand(64, 1, 1, 1)
    save_file({**state, "conv1.weight": whole, "conv1.weight::scale": scale}, published)
    ours = model("resnet18")
    pretrained.load(ours, published)
    assert torch.equal(ours.backbone.conv1.weight, whole.float() * scale)


def test_counts_of_batches_may_be_absent(published: Path) -> None:
    state = load_file(published)
    save_file({k: v for k, v in state.items() if "num_batches" not in k}, published)
    pretrained.load(model("resnet18"), published)


BAD = {
    "missing": (lambda s: s.pop("layer4.1.bn2.bias"), "'layer4.1.bn2.bias' is missing"),
    "extra": (lambda s: s.update(odd=torch.zeros(1)), "'odd' is unexpected"),
    "shape": (lambda s: s.update({"conv1.weight": torch.zeros(2)}), "'conv1.weight' is of another"),
    "scale": (lambda s: s.update({"odd::scale": torch.zeros(1)}), "'odd::scale' scales none"),
    "int8": (
        lambda s: s.update({"conv1.weight": torch.zeros(64, 3, 7, 7, dtype=torch.int8)}),
        "'conv1.weight' has no 'conv1.weight::scale'",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(published: Path, fault: str) -> None:
    change, message = BAD[fault]
    state = load_file(published)
    change(state)
    save_file(state, published)
    ours = model("resnet18")
    before = ours.backbone.conv1.weight.clone()
    with pytest.raises(UserError, match=message) as raised:
        pretrained.load(ours, published)
    assert str(published) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert torch.equal(ours.backbone.conv1.weight, before)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent"):
        pretrained.load(model("resnet18"), tmp_path / "absent.safetensors")


def test_not_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("hello")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        pretrained.load(model("resnet18"), path)


@pytest.mark.parametrize("zipped", [True, False])
def test_torchvisions_own_files_become_the_backbones_tensors(tmp_path: Path, zipped: bool) -> None:
    """torchvision's older files are pickles without a zip around them."""
    state = torchvision.models.mobilenet_v2().state_dict()
    path = tmp_path / "mobilenet_v2.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    tensors = pretrained.convert(path, "mobilenet_v2")
    assert tensors.keys() == model("mobilenet_v2").backbone.state_dict().keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in tensors.items())
    assert not any(key.startswith("classifier.") for key in tensors)


@pytest.mark.parametrize(
    ("backbone", "file"),
    [
        ("mobilenet_v2", "mobilenet_v2_imagenet_fp16.safetensors"),
        ("resnet50", "resnet50_imagenet_int8.safetensors"),
    ],
)
def test_weights_trained_on_photographs_see_something(
    shared: Path, backbone: str, file: str
) -> None:
    """On photographs, trained weights give features that tell images apart; wrong scales or
    names would give noise, zeros or infinities.
    """
    ours = model(backbone).eval()
    pretrained.load(ours, shared / "weights" / file)
    names = sorted((shared / "voc_subset" / "JPEGImages").glob("*.jpg"))[:2]
    images = [
        normalize(
            resize(pil_to_tensor(Image.open(n)), [128, 128]).float() / 255,
            [0.485, 0.456, 0.406],
            [0.229, 0.224, 0.225],
        )
        for n in names
    ]
    with torch.inference_mode():
        features = ours.backbone(torch.stack(images))
    pooled = features.mean((2, 3))
    assert features.isfinite().all()
    assert 0.05 < features.std() < 5
    assert torch.nn.functional.cosine_similarity(pooled[0], pooled[1], dim=0) < 0.98
