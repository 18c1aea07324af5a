"""Backbones against torchvision's own, and those that other packages bring."""

import copy
import functools
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from dkd.errors import UserError
from dkd.network import backbones, pretrained
from dkd.network.backbones import BACKBONES, Backbone, Stem, watch_stages
from dkd.network.deeplab import ASPP, SegmentationModel, build, freeze_for_later_step, grow
from dkd.network.folding import fold_student
from dkd.network.layer_normalised import at_every_place
from dkd.network.normalisation import BatchNorm2d
from dkd.network.preparation import prepare_frozen, prepare_images, prepare_student
from dkd.scenario.backbones import OUTPUT_STRIDES
from dkd.scenario.network import Network
from dkd.scenario.speed import Speed
from dkd.scenario.strict_model import parse_part

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "backbones.md"
LAYERED = ["swin_t", "swin_v2_t", "convnext_tiny"]


@functools.cache
def torchvisions(name: str) -> nn.Module:
    """Random weights, which take long to draw."""
    return torchvision.models.get_model(name).eval()


def network(name: str, stride: int) -> nn.Module:
    """Ours with these weights."""
    with torch.device("meta"):
        ours = BACKBONES[name].build(stride)
    theirs = torchvisions(name).state_dict()
    ours.load_state_dict({key: theirs[key].clone() for key in ours.state_dict()}, assign=True)
    return ours


def torchvisions_features(name: str, network: nn.Module, images: Tensor) -> Tensor:
    x = network.features(images)
    if name.startswith("swin"):
        return network.permute(network.norm(x))
    return network.classifier[0](x)


def test_the_names_are_the_ones_of_the_light_table() -> None:
    assert BACKBONES.keys() == OUTPUT_STRIDES.keys()


@pytest.mark.parametrize("name", LAYERED)
def test_features_are_torchvisions(name: str) -> None:
    """At stride 32 all of them, at 16 every second one; on other sizes none is left out."""
    images = torch.randn(2, 3, 96, 160)
    for stride, every in ((32, 1), (16, 2)):
        ours = network(name, stride).eval()
        with torch.inference_mode():
            expected = torchvisions_features(name, torchvisions(name), images)
            found = ours(images)
            odd = ours(images[..., :81, :150])
        torch.testing.assert_close(found[..., ::every, ::every], expected, rtol=1e-5, atol=1e-5)
        assert found.shape[2:] == (96 // stride, 160 // stride)
        assert odd.shape[2:] == (-(-81 // stride), -(-150 // stride))
        assert found.std((2, 3)).min() > 0, "places differ"


def test_mobilenet_v3_is_that_of_torchvisions_deeplab() -> None:
    with torch.device("meta"):
        whole = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(
            weights=None, weights_backbone=None
        )
    theirs = torchvision.models.mobilenet_v3_large(dilated=True).eval()
    theirs.load_state_dict(torchvisions("mobilenet_v3_large").state_dict())
    ours = network("mobilenet_v3_large", 16).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs.features(images), rtol=1e-5, atol=1e-5)

    def layout(network: nn.Module) -> list[object]:
        return [
            (m.kernel_size, m.stride, m.padding, m.dilation)
            for m in network.modules()
            if isinstance(m, nn.Conv2d)
        ]

    assert layout(ours) == layout(whole.backbone)
    finer = network("mobilenet_v3_large", 8).eval()
    spread = [m.dilation[0] for m in finer.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert spread == [1] * 6 + [2] * 6 + [4] * 3
    with torch.inference_mode():
        assert finer(images).shape == (1, 960, 8, 12)


@pytest.mark.parametrize("name", [name for name in BACKBONES if name != "demo"])
def test_a_file_of_torchvisions_fits(name: str) -> None:
    """Every tensor of the network is one of torchvision's, and the rest is its classifier's."""
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name).state_dict()
        ours = BACKBONES[name].build(OUTPUT_STRIDES[name][0]).state_dict()
    assert all(ours[key].shape == theirs[key].shape for key in ours)
    classifier = BACKBONES[name].classifier
    assert {key for key in theirs if not key.startswith(classifier)} == ours.keys()


def test_every_place_has_what_the_halved_map_has() -> None:
    convolution = nn.Conv2d(3, 5, 2, 2)
    x = torch.randn(2, 3, 8, 6)
    found = at_every_place(convolution, x)
    dense = nn.functional.conv2d(
        nn.functional.pad(x, (0, 1, 0, 1)), convolution.weight, convolution.bias
    )
    torch.testing.assert_close(found, dense)


# ---- as a part of a model


def model(name: str) -> SegmentationModel:
    made = build(Network(backbone="demo", aspp_channels=8), [2])
    made.backbone = network(name, 16)
    made.aspp = ASPP(BACKBONES[name].channels, 8, (6, 12, 18))
    return made


@pytest.mark.parametrize("name", [*LAYERED, "mobilenet_v3_large"])
def test_a_later_step_freezes_normalisation_and_drops_nothing(name: str) -> None:
    student = grow(model(name), 1)
    freeze_for_later_step(student)
    student.train()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(student(images).logits, student(images).logits)
    student(images).logits.sum().backward()
    norms = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm)
    of_norms = {id(p) for m in student.modules() if isinstance(m, norms) for p in m.parameters()}
    assert of_norms
    for parameter in student.parameters():
        assert (parameter.grad is None) == (id(parameter) in of_norms)


@pytest.mark.parametrize("name", LAYERED)
def test_a_first_step_drops_paths_and_learns_all(name: str) -> None:
    first = model(name).train()
    images = torch.randn(2, 3, 32, 32)
    assert not torch.equal(first.backbone(images), first.backbone(images))
    first(images).logits.sum().backward()
    assert all(p.grad is not None for p in first.backbone.parameters())


@pytest.mark.parametrize("name", LAYERED)
def test_a_smaller_type_passes_through(name: str) -> None:
    """With folded normalisation behind, whose gradient needs one type."""
    student = grow(model(name), 1)
    freeze_for_later_step(student)
    fold_student(student.train())
    images = torch.randn(2, 3, 32, 32).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert student.backbone(images).dtype == torch.bfloat16
        output = student(images)
    output.logits.sum().backward()
    assert student.head(1).weight.grad.isfinite().all()


@pytest.mark.parametrize("name", ["swin_t", "convnext_tiny"])
def test_the_speed_switches_change_nothing(name: str) -> None:
    plain = grow(model(name).eval(), 1)
    freeze_for_later_step(plain)
    fast = copy.deepcopy(plain)
    speed = Speed(channels_last=True, fold_norms=True, unshuffled_stem=True)
    images = torch.randn(1, 3, 64, 64)
    for each in (prepare_student, prepare_frozen):
        made = each(copy.deepcopy(fast), speed)
        with torch.inference_mode():
            found = made(prepare_images(images, made, speed)).features
            expected = plain(images).features
        assert expected.std() > 0
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["swin_t", "convnext_tiny", "mobilenet_v3_large"])
def test_four_stages_can_be_watched(name: str) -> None:
    backbone = network(name, 16).eval()
    seen: list[Tensor] = []
    backbones.watch_stages(backbone, seen.append)
    with torch.inference_mode():
        found = backbone(torch.randn(1, 3, 64, 64))
    assert len(seen) == 4
    assert torch.equal(seen[-1], found)
    assert [x.shape[2] for x in seen] == [16, 8, 4, 4]
    assert all(x.shape[0] == 1 and x.shape[2] == x.shape[3] for x in seen)


# ---- what a scenario may say


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"backbone": "vgg16"}, "network.backbone: 'vgg16' is none of resnet101, .*installed"),
        (
            {"backbone": "swin_t", "output_stride": 8},
            "network.output_stride: of swin_t it is 16 or 32, not 8",
        ),
        ({"backbone": "resnet18", "output_stride": 4}, "of resnet18 it is 8 or 16, not 4"),
        ({"backbone": "demo", "output_stride": 16}, "output_stride: of demo it is 4 or 8, not 16"),
    ],
)
def test_what_there_is_not(document: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as told:
        parse_part(Network, document, "", within="network")
    assert "\n" not in str(told.value)


# ---- from outside


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a module with entry points beside the installed packages."""

    def installed(code: str, entries: str) -> None:
        info = tmp_path / "my_backbones-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Name: my_backbones\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entries)
        (tmp_path / "my_backbones.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "my_backbones", raising=False)

    return installed


def test_the_documented_backbone_of_timm(
    install: Callable[[str, str], None], tmp_path: Path
) -> None:
    timm = pytest.importorskip("timm")
    page = PAGE.read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    (declared,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    ((group, entries),) = tomllib.loads(declared)["project"]["entry-points"].items()
    install(code, "\n".join([f"[{group}]", *(f"{k} = {v}" for k, v in entries.items())]))
    theirs = timm.create_model("resnet10t")
    save_file(theirs.state_dict(), tmp_path / "resnet10t.safetensors")
    ours = build(Network(backbone="resnet10t", aspp_channels=8), [2]).eval()
    pretrained.load(ours, tmp_path / "resnet10t.safetensors")
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        found = ours.backbone(images)
        dilated = timm.create_model("resnet10t", output_stride=16).eval()
        dilated.load_state_dict(theirs.state_dict())
        torch.testing.assert_close(found, dilated.forward_features(images))
    assert found.shape == (1, 512, 4, 4)
    norms = [m for m in ours.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(isinstance(m, BatchNorm2d) for m in norms)
    assert Network(backbone="resnet10t").initial_weights == "none"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import not_there", "'mine' is my_backbones:MINE, but No module named 'not_there'"),
        ("MINE = 1", "'mine' is my_backbones:MINE, no dkd.network.backbones.Backbone"),
    ],
)
def test_one_that_cannot_be_used(
    install: Callable[[str, str], None], code: str, message: str
) -> None:
    install(code, "[dkd.backbones]\nmine = my_backbones:MINE\n")
    with pytest.raises(UserError, match=message):
        backbones.get("mine")


def test_one_that_cannot_have_the_stride() -> None:
    def make(stride: int) -> nn.Module:
        raise ValueError(f"no stride {stride} here")

    with pytest.raises(UserError, match=r"network.output_stride: 8: no stride 8 here"):
        Backbone(make, 8).build(8)


class _Own(nn.BatchNorm2d):
    """Does what nobody here knows."""


@pytest.mark.parametrize(
    "norm", [_Own(3), nn.BatchNorm1d(3), nn.BatchNorm2d(3, momentum=None), nn.SyncBatchNorm(3)]
)
def test_normalisation_that_ranks_cannot_share(norm: nn.Module) -> None:
    with pytest.raises(UserError, match=rf"its 0 is a {type(norm).__name__}; only torch.nn.Batch"):
        Backbone(lambda stride: nn.Sequential(norm), 3).build(16)


def test_shared_normalisation_computes_the_same() -> None:
    norm = nn.BatchNorm2d(3, eps=1e-3, momentum=0.2)
    nn.init.uniform_(norm.weight)
    plain = copy.deepcopy(norm)
    shared = Backbone(lambda stride: nn.Sequential(norm), 3).build(16)
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(shared(x), plain(x))
    assert torch.equal(shared[0].running_mean, plain.running_mean)
    assert type(shared[0]) is BatchNorm2d


@pytest.mark.parametrize("size", [(32, 32), (33, 30), (31, 35), (7, 8), (2, 2), (1, 1)], ids=str)
def test_the_stem_of_12_channels_is_the_same_convolution(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 8, 7, 2, 3, bias=False).double()
    stem = Stem(plain)
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = plain(images)
    torch.testing.assert_close(stem(images), expected)
    stem.unshuffled = True
    found = stem(images)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(stem(Stem.unshuffle(images)), expected)
    dy = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, stem.weight, dy), torch.autograd.grad(expected, plain.weight, dy)
    )


def test_the_stem_converts_images_on_the_way() -> None:
    images = torch.randn(1, 3, 6, 6)
    found = Stem.unshuffle(images, torch.bfloat16)
    torch.testing.assert_close(found, Stem.unshuffle(images).bfloat16())
    assert found.shape == (1, 16, 6, 6)
    assert not found[:, 12:].any()


@pytest.mark.parametrize(
    ("backbone", "stages"), [("resnet18", 4), ("mobilenet_v2", 4), ("demo", 4)]
)
def test_stages_are_watched_and_nothing_changes(backbone: Any, stages: int) -> None:
    model = build(Network(backbone=backbone, aspp_channels=8), [2]).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        plain = model.features(images)
        seen: list[torch.Tensor] = []
        watch_stages(model.backbone, seen.append)
        watched = model.features(images)
    assert torch.equal(plain, watched)
    assert len(seen) == stages
    if backbone == "resnet18":
        assert all((stage < 0).any() for stage in seen)
