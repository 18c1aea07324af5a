"""The network against the authors' released layout and figures."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_weights import made_state
from torch import nn

from dkd.data.transforms import normalise
from dkd.network.backbones import BACKBONES
from dkd.network.deeplab import (
    SegmentationModel,
    build,
    freeze_for_later_step,
    grow,
    rearranged,
)
from dkd.network.prediction import predict
from dkd.network.preparation import prepare_frozen, prepare_images
from dkd.network.speed import decided
from dkd.scenario.network import Network
from dkd.scenario.speed import Speed

BATCH_NORMALISED = [name for name in BACKBONES if not name.startswith(("swin", "convnext"))]
DEMO = Network(backbone="demo", aspp_channels=16)


def test_forward_agrees_with_the_released_program(reference: Path) -> None:
    golden = np.load(reference / "forward_golden.npz")
    model = build(Network(backbone="resnet101"), [15, 5]).eval()
    model.load_state_dict(made_state(model))
    images = torch.from_numpy(np.random.default_rng(7).normal(0, 1, (2, 3, 97, 129))).float()
    with torch.inference_mode():
        backbone = model.backbone(images)
        output = model(images, decomposed=20)
        logits = model.logits(output.features, (97, 129))
    seen = {
        "expected_backbone_mean": backbone.mean(),
        "expected_backbone_std": backbone.std(),
        "expected_decoder_features": output.features[:, ::8],
        "expected_logits_sampled": logits[:, :, ::8, ::8],
        "expected_pos": output.positive,
        "expected_neg": output.negative,
    }
    for name, value in seen.items():
        np.testing.assert_allclose(value.numpy(), golden[name], atol=1e-4, rtol=0, err_msg=name)


@pytest.mark.parametrize("counts", [[15, 5], [19, 1], [15, 1, 1, 1, 1, 1], [100, 50], [20]])
def test_keys_and_shapes_are_the_released_ones(reference: Path, counts: list[int]) -> None:
    expected = json.loads((reference / "official_state_dict.json").read_text())
    expected = {k: v for k, v in expected.items() if not k.startswith("cls.")}
    for k, count in enumerate([1, *counts]):
        expected |= {f"cls.{k}.weight": [count, 256, 1, 1], f"cls.{k}.bias": [count]}
    with torch.device("meta"):
        model = build(Network(backbone="resnet101"), counts)
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == expected


@pytest.mark.parametrize("backbone", BATCH_NORMALISED)
def test_features_have_the_stated_stride_and_are_not_negative(backbone: str) -> None:
    model = build(Network(backbone=backbone, aspp_channels=8), [2]).eval()
    with torch.inference_mode():
        output = model(torch.randn(1, 3, 64, 96))
    stride = Network(backbone=backbone).stride
    assert output.features.shape == (1, 8, 64 // stride, 96 // stride)
    assert output.features.min() >= 0
    assert output.logits.shape[1] == 3


@pytest.mark.parametrize("backbone", ["resnet50", "resnet18", "mobilenet_v2"])
def test_dilation_keeps_the_strided_networks_values(backbone: str) -> None:
    """A dilated stage computes, at every second position, what the strided one computes."""
    import torchvision

    ours = BACKBONES[backbone].make().double().eval()
    plain = getattr(torchvision.models, backbone)().double().eval()
    plain.load_state_dict(ours.state_dict(), strict=False)
    images = torch.randn(1, 3, 128, 128, dtype=torch.float64)
    with torch.inference_mode():
        if backbone == "mobilenet_v2":
            strided = plain.features[:18](images)
        else:
            x = plain.maxpool(plain.relu(plain.bn1(plain.conv1(images))))
            strided = plain.layer4(plain.layer3(plain.layer2(plain.layer1(x))))
        torch.testing.assert_close(ours(images)[..., ::2, ::2], strided)


def test_resnet101_has_torchvisions_dilation() -> None:
    import torchvision

    with torch.device("meta"):
        ours = BACKBONES["resnet101"].make()
        theirs = torchvision.models.resnet101(replace_stride_with_dilation=[False, False, True])

    def layout(network: nn.Module) -> dict[str, tuple[object, ...]]:
        return {
            name: (m.kernel_size, m.stride, m.padding, m.dilation)
            for name, m in network.named_modules()
            if isinstance(m, nn.Conv2d)
        }

    assert layout(ours) == layout(theirs)


def test_logits_are_the_decomposed_ones_plus_bias() -> None:
    model = build(DEMO, [3, 2]).double().eval()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    output = model(images, decomposed=3)
    assert output.positive.shape[1] == output.negative.shape[1] == 3
    assert output.positive.min() >= 0 >= output.negative.max()
    bias = model.cls[1].bias[:, None, None]
    torch.testing.assert_close(output.positive + output.negative + bias, output.logits[:, 1:4])


def test_the_auxiliary_classifier_sends_no_gradient_into_the_features() -> None:
    model = build(DEMO, [3])
    model(torch.randn(2, 3, 32, 32)).logits[:, 0].sum().backward()
    assert model.cls[0].weight.grad.abs().sum() > 0
    assert all(p.grad is None or not p.grad.any() for p in model.backbone.parameters())
    # One concatenated tensor: a head that no loss uses still gets a (zero) gradient.
    assert not model.cls[1].weight.grad.any()


def test_every_parameter_is_used() -> None:
    model = build(DEMO, [3, 2])
    output = model(torch.randn(2, 3, 32, 32), decomposed=3)
    (output.logits.sum() + output.positive.sum() + output.negative.sum()).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_grow_copies_the_teacher_and_starts_from_the_auxiliary_classifier() -> None:
    teacher = build(DEMO, [3, 2]).requires_grad_(False)
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    student = grow(teacher, 4)
    assert student.counts == (3, 2, 4)
    assert student.classes == 9
    state = student.state_dict()
    assert set(state) - set(before) == {"cls.3.weight", "cls.3.bias"}
    for key, value in before.items():
        assert torch.equal(state[key], value)
        assert state[key].data_ptr() != teacher.state_dict()[key].data_ptr()
    for channel in range(4):
        assert torch.equal(state["cls.3.weight"][channel], before["cls.0.weight"][0])
        assert torch.equal(state["cls.3.bias"][channel], before["cls.0.bias"][0])
    assert all(p.requires_grad for p in student.parameters())
    # A new class starts where the auxiliary classifier is: same logits on the same features.
    logits = student.eval()(torch.randn(1, 3, 32, 32)).logits
    torch.testing.assert_close(logits[:, 6:], logits[:, :1].expand(-1, 4, -1, -1))


def test_aspp_and_heads_start_by_kaiming_normal() -> None:
    """Each tensor's moments against the law's own: normal, mean 0, variance 2 / fan in."""
    torch.manual_seed(0)
    model = build(Network(backbone="demo", aspp_channels=128), [150, 30])
    drawn = {
        name: weight.detach().double()
        for name, weight in model.named_parameters()
        if name.startswith(("aspp", "cls")) and weight.ndim == 4
    }
    assert len(drawn) == 7 + 3
    for name, weight in drawn.items():
        count, fan_in = weight.numel(), weight[0].numel()
        unit = weight.flatten() * math.sqrt(fan_in / 2)
        # Five standard errors of each moment of so many standard normal draws.
        assert abs(unit.mean()) < 5 * math.sqrt(1 / count), name
        assert abs(unit.square().mean() - 1) < 5 * math.sqrt(2 / count), name
        assert abs(unit.pow(4).mean() - 3) < 5 * math.sqrt(96 / count), name


def test_biases_of_heads_start_uniform_within_one_over_the_root_of_fan_in() -> None:
    torch.manual_seed(0)
    model = build(Network(backbone="demo", aspp_channels=64), [4000])
    unit = model.cls[1].bias.detach().double() * math.sqrt(64)
    assert unit.abs().max() <= 1
    assert abs(unit.mean()) < 5 * math.sqrt(1 / 3 / 4000)
    assert abs(unit.square().mean() - 1 / 3) < 5 * math.sqrt(4 / 45 / 4000)


def test_a_start_is_drawn_from_the_global_generator_alone() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(build(DEMO, [2]).state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def batch_norms(model: SegmentationModel) -> list[nn.BatchNorm2d]:
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


def test_a_later_step_leaves_batch_normalisation_bit_identical() -> None:
    student = grow(build(DEMO, [3]), 2)
    freeze_for_later_step(student)
    student.train()
    keys = [
        f"{name}.{key}"
        for name, module in student.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for key in module.state_dict()
    ]
    before = {k: v.clone() for k, v in student.state_dict().items()}
    learned = [p for p in student.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(learned, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        student(torch.randn(2, 3, 32, 32), decomposed=3).logits.square().mean().backward()
        optimiser.step()
    after = student.state_dict()
    assert keys
    assert all(torch.equal(before[k], after[k]) for k in keys)
    assert not torch.equal(before["cls.2.weight"], after["cls.2.weight"])
    assert not torch.equal(before["backbone.stem.0.0.weight"], after["backbone.stem.0.0.weight"])


def test_a_later_step_has_no_dropout() -> None:
    student = grow(build(DEMO, [3]), 2)
    freeze_for_later_step(student)
    student.train()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(student(images).logits, student(images).logits)


def test_a_first_step_learns_batch_normalisation() -> None:
    model = build(DEMO, [3]).train()
    before = [b.running_mean.clone() for b in batch_norms(model)]
    model(torch.randn(4, 3, 32, 32))
    after = [b.running_mean for b in batch_norms(model)]
    assert not any(map(torch.equal, before, after))


@pytest.mark.parametrize(("part", "momentum"), [("backbone", 0.01), ("aspp", 0.1)])
@pytest.mark.parametrize("backbone", BATCH_NORMALISED)
def test_momentum(backbone: str, part: str, momentum: float) -> None:
    with torch.device("meta"):
        model = build(Network(backbone=backbone), [2])
    norms = batch_norms(getattr(model, part))
    assert norms
    assert {b.momentum for b in norms} == {momentum}


def test_a_batch_of_one_trains() -> None:
    model = build(DEMO, [3]).train()
    output = model(torch.randn(1, 3, 32, 32))
    output.logits.sum().backward()
    assert output.logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_autocast_leaves_the_heads_in_their_own_precision() -> None:
    model = build(DEMO, [3, 2]).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(images, decomposed=3)
        assert model.backbone(images).dtype == torch.bfloat16
    assert {tensor.dtype for tensor in found} == {torch.float32}
    weight = torch.cat([head.weight for head in model.cls[1:]])
    bias = torch.cat([head.bias for head in model.cls[1:]])
    exact = nn.functional.conv2d(found.features.double(), weight.double(), bias.double())
    torch.testing.assert_close(found.logits[:, 1:].double(), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_may_be_of_another_type_altogether(dtype: torch.dtype) -> None:
    model = build(DEMO, [3]).to(dtype).eval()
    assert model(torch.randn(1, 3, 32, 32, dtype=dtype)).logits.dtype == dtype


def test_the_demonstration_network_is_small() -> None:
    model = build(Network(backbone="demo", aspp_channels=48), [4, 3])
    assert 100_000 <= sum(p.numel() for p in model.parameters()) <= 300_000


@pytest.mark.parametrize("backbone", ["resnet50", "resnet101"])
def test_output_stride_8_is_torchvisions(backbone: str) -> None:
    """Both of the last stages dilated: layer by layer, and in what they compute."""
    import torchvision

    torch.manual_seed(4)
    ours = BACKBONES[backbone].make(stride=8).double().eval()
    theirs = getattr(torchvision.models, backbone)(replace_stride_with_dilation=[False, True, True])
    theirs.load_state_dict(ours.state_dict(), strict=False)
    theirs = theirs.double().eval()
    images = torch.randn(1, 3, 64, 48, dtype=torch.float64)
    with torch.inference_mode():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x))))
        found = ours(images)
    assert found.shape == (1, 2048, 8, 6)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_stride_8_of_mobilenet_keeps_the_strided_networks_values() -> None:
    wide = BACKBONES["mobilenet_v2"].make(stride=8).double().eval()
    usual = BACKBONES["mobilenet_v2"].make().double().eval()
    usual.load_state_dict(wide.state_dict())
    images = torch.randn(1, 3, 128, 128, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(wide(images)[..., ::2, ::2], usual(images))


def test_aspp_is_made_as_the_network_says() -> None:
    network = Network(backbone="demo", aspp_dilations=(1, 2, 3), aspp_dropout=0.5)
    aspp = SegmentationModel(network, [1]).aspp
    assert [aspp.convs[k][0].dilation for k in (1, 2, 3)] == [(1, 1), (2, 2), (3, 3)]
    assert aspp.project[3].p == 0.5


def test_dilating_whole_stages_is_segmentation_models_pytorchs() -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(5)
    network = Network(backbone="resnet18", output_stride=8, whole_stage_dilation=True)
    ours = SegmentationModel(network, [1]).backbone.double().eval()
    theirs = smp.encoders.get_encoder("resnet18", weights=None, output_stride=8)
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(1, 3, 64, 48, dtype=torch.float64)
    with torch.inference_mode():
        expected = theirs.double().eval()(images)[-1]
        torch.testing.assert_close(ours(images), expected, rtol=1e-12, atol=1e-12)


def test_a_networks_own_normalisation() -> None:
    """Images come with ImageNet's; the network sees its own, through the reshaped stem too."""
    mean, std = (0.5, 0.4, 0.3), (0.5, 0.25, 1.0)
    model = build(Network(backbone="resnet18", aspp_channels=8, mean=mean, std=std), [1]).eval()
    pixels = torch.randint(256, (1, 3, 32, 32), dtype=torch.uint8)
    expected = (pixels / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    images = normalise(pixels)
    torch.testing.assert_close(model.normalised(images), expected)
    usual = build(Network(backbone="resnet18", aspp_channels=8), [1]).eval()
    usual.load_state_dict(model.state_dict())
    with torch.inference_mode():
        found = usual.features(expected)
        torch.testing.assert_close(model.features(images), found)
        speed = decided(Speed(unshuffled_stem=True), False)
        fast = prepare_frozen(model, speed)
        torch.testing.assert_close(
            fast.features(prepare_images(images, fast, speed)), found, rtol=1e-4, atol=1e-4
        )


def test_logits_may_be_enlarged_corner_to_corner() -> None:
    network = Network(backbone="demo", aspp_channels=8, align_corners=True)
    model = build(network, [2]).eval()
    features = torch.rand(1, 8, 4, 4)
    with torch.inference_mode():
        small = model.logits(features, (4, 4))
        large = model.logits(features, (16, 16))
    corners = (..., [0, 0, -1, -1], [0, -1, 0, -1])
    torch.testing.assert_close(large[corners], small[corners])
    found = predict(small, (16, 16), reading=model.reading)
    assert torch.equal(found, predict(large))


def test_a_merged_class_learns_as_one_channel() -> None:
    """What the losses see of a model with merged classes, and of the student grown from it."""
    torch.manual_seed(4)
    model = build(Network(backbone="demo", aspp_channels=8), [2, 2]).eval()
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():  # so that each of the two is the larger one somewhere
        model.head(2).bias -= model(images).logits[:, 3:].mean((0, 2, 3))
    merged = rearranged(model, [[[1], [3, 4]], [[2]]]).eval()
    assert (merged.counts, merged.classes, merged.widths) == ((2, 1), 3, (1, 2, 1))
    student = grow(merged, 1).eval()
    assert (student.counts, student.classes) == ((2, 1, 1), 4)
    usual, found = model(images, decomposed=4), student(images, decomposed=3)
    second = usual.logits[:, 3:].max(1, keepdim=True).values
    expected = torch.cat([usual.logits[:, :2], second, usual.logits[:, 2:3]], 1)
    torch.testing.assert_close(found.logits[:, :4], expected)
    bias = (found.logits[:, 1:4] - found.positive - found.negative).flatten(2)
    first, both = bias[:, 0].flatten(), bias[:, 1].flatten().unique()
    torch.testing.assert_close(first, model.head(1).bias[:1].expand_as(first))
    assert len(both.round(decimals=4).unique()) == 2  # of whichever channel is larger there
    found.logits[:, 2].sum().backward()
    assert student.head(1).weight.grad[1:].abs().flatten(1).sum(1).min() > 0
    assert student.head(1).weight.grad[:1].abs().sum() == 0
