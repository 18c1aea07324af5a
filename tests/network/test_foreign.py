"""Models of other programs: read in each form that they come in, beside their own networks."""

import argparse
import json
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch.nn import functional as F

from dkd.errors import UserError
from dkd.network import foreign
from dkd.network.deeplab import SegmentationModel, grow
from dkd.network.prediction import segment


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """A small stand-in is no use here: names and shapes are what is checked."""
    listed = json.loads(
        (Path(__file__).parents[1] / "reference" / "official_state_dict.json").read_text()
    )
    made = {k: torch.zeros(()).expand(shape) for k, shape in listed.items()}
    made["cls.2.bias"] = torch.arange(5.0)
    made["backbone.bn1.num_batches_tracked"] = torch.tensor(7)
    return made


def save(content: object, folder: Path) -> Path:
    path = folder / "released.pth"
    torch.save(content, path)
    return path


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.", "model._orig_mod."])
def test_released_forms_load(
    state: dict[str, torch.Tensor], tmp_path: Path, wrapped: bool, prefix: str
) -> None:
    content = {prefix + key: value for key, value in state.items()}
    path = save({"state_dict": content, "epoch": 60} if wrapped else content, tmp_path)
    model = foreign.recognise(path).model([15, 5])
    assert model.counts == (15, 5)
    loaded = model.state_dict()
    assert loaded["cls.2.bias"].tolist() == [0, 1, 2, 3, 4]
    assert loaded["backbone.bn1.num_batches_tracked"] == 7
    assert all(torch.equal(loaded[k], state[k]) for k in state)


BAD = {
    "missing": (
        lambda s: s.pop("aspp.convs.4.2.bias"),
        [15, 5],
        "'aspp.convs.4.2.bias' is missing",
    ),
    "extra": (lambda s: s.update(odd=torch.zeros(1)), [15, 5], "'odd' is unexpected"),
    "shape": (lambda s: None, [15, 4], "'cls.2.bias' is of another shape"),
    "steps": (lambda s: None, [15, 5, 1], "'cls.3.bias' is missing"),
    "fewer steps": (lambda s: None, [15], "'cls.2.bias' is unexpected"),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_does_not_fit_is_named(
    state: dict[str, torch.Tensor], tmp_path: Path, fault: str
) -> None:
    change, counts, message = BAD[fault]
    changed = dict(state)
    change(changed)
    with pytest.raises(UserError, match=message):
        foreign.recognise(save({"state_dict": changed}, tmp_path)).model(counts)


# ---- a softmax of torchvision's or segmentation_models_pytorch's: the same masks


def made(network: torch.nn.Module, head: torch.nn.Conv2d) -> torch.nn.Module:
    """Random, but with statistics that are no defaults, and every class somewhere."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    seen: list[torch.Tensor] = []
    handle = head.register_forward_hook(lambda _m, inputs, _r: seen.append(inputs[0]))
    with torch.inference_mode():
        network.eval()(images())
    handle.remove()
    features = seen[0].transpose(0, 1).flatten(1)
    assert features.min() >= 0  # behind a ReLU
    with torch.no_grad():
        head.weight.normal_().div_(features.std(1)[:, None, None].clamp(min=1e-3))
        logits = head.weight[:, :, 0, 0] @ features
        head.bias.copy_(-logits.mean(1))
        head.weight.div_(logits.std())
        head.bias.div_(logits.std())
    return network


def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return F.interpolate(torch.randn(2, 3, 9, 7, generator=generator), (96, 64), mode="bicubic")


@pytest.fixture(scope="module")
def torchvisions() -> torch.nn.Module:
    torch.manual_seed(6)
    network = torchvision.models.segmentation.deeplabv3_resnet50(
        weights=None, weights_backbone=None, num_classes=4, aux_loss=True
    )
    return made(network, network.classifier[4])


@pytest.fixture(scope="module")
def smps() -> torch.nn.Module:
    return small_smp(8)


def small_smp(stride: int) -> torch.nn.Module:
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(7)
    network = smp.DeepLabV3(
        "resnet18",
        encoder_weights=None,
        encoder_output_stride=stride,
        decoder_channels=24,
        decoder_atrous_rates=(3, 6, 9),
        classes=4,
    )
    return made(network, network.segmentation_head[0])


def require_same_masks(ours: SegmentationModel, logits: torch.Tensor, background: int = 0) -> None:
    """Every pixel but those whose two highest channels are closer than arithmetic is exact."""
    with torch.inference_mode():
        found = segment(ours.eval(), images(), (96, 64))
    order = [background, *(k for k in range(logits.shape[1]) if k != background)]
    logits = logits[:, order]
    expected = logits.argmax(1)
    first, second = logits.topk(2, dim=1).values.unbind(1)
    tie = first - second < 1e-5
    assert torch.equal(found[~tie].long(), expected[~tie])
    assert tie.sum() <= 4
    assert expected.unique().tolist() == [0, 1, 2, 3]


def test_torchvisions_model_predicts_the_same_masks(
    torchvisions: torch.nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / "model.pth"
    torch.save({"model": torchvisions.state_dict(), "epoch": 3}, path)
    found = foreign.recognise(path)
    assert found.architecture.name == "torchvision's deeplabv3_resnet50"
    assert found.channels == 4
    described = {"output_stride": 8, "aspp_dilations": [12, 24, 36], "aspp_dropout": 0.5}
    assert found.network.structure() == {
        "backbone": "resnet50",
        "aspp_channels": 256,
        **described,
    }
    with torch.inference_mode():
        logits = torchvisions(images())["out"]
    model = found.converted(3).model([3])
    require_same_masks(model, logits)
    # The auxiliary classifier says 1 percent everywhere, and so do the next step's classes.
    grown = grow(model, 1)
    with torch.inference_mode():
        output = grown.eval()(images())
    for channel in (0, 4):
        torch.testing.assert_close(output.logits[:, channel].sigmoid().max().item(), 0.01)
    require_same_masks(grown, logits)
    require_same_masks(found.converted(3, background=2).model([3]), logits, background=2)


@pytest.mark.parametrize("stride", [8, 16])
def test_smps_model_predicts_the_same_masks(stride: int, tmp_path: Path) -> None:
    smps = small_smp(stride)
    smps.save_pretrained(tmp_path)
    found = foreign.recognise(tmp_path)
    assert found.architecture.name == "segmentation_models_pytorch's DeepLabV3 (resnet18)"
    assert found.network.stride == smps.encoder.output_stride
    assert found.network.dilations == (3, 6, 9)
    assert found.network.aspp_channels == 24
    with torch.inference_mode():
        logits = smps(images())
    require_same_masks(found.converted(3).model([3]), logits)
    alone = foreign.recognise(tmp_path / "model.safetensors")  # its weights alone do not say so
    assert (alone.network.stride, alone.network.dilations) == (8, (12, 24, 36))
    network = alone.network.model_copy(
        update={"output_stride": found.network.stride, "aspp_dilations": (3, 6, 9)}
    )
    require_same_masks(alone.converted(3).model([3], network), logits)


def test_torchvisions_mobilenet_predicts_the_same_masks(tmp_path: Path) -> None:
    torch.manual_seed(3)
    theirs = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4
    )
    made(theirs, theirs.classifier[4])
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    found = foreign.recognise(tmp_path / "model.safetensors")
    assert found.architecture.name == "torchvision's deeplabv3_mobilenet_v3_large"
    assert found.network.stride == 16
    with torch.inference_mode():
        logits = theirs(images())["out"]
    require_same_masks(found.converted(3).model([3]), logits)


def test_smps_sigmoids_stay_as_they_are(smps: torch.nn.Module, tmp_path: Path) -> None:
    torch.save(smps.state_dict(), tmp_path / "m.pth")
    model = foreign.recognise(tmp_path / "m.pth").converted(4, sigmoid=True).model([4])
    with pytest.raises(UserError, match=r"3 names, but .*m\.pth has 4 channels, each a sigmoid"):
        foreign.recognise(tmp_path / "m.pth").converted(3, sigmoid=True)
    for key in ("weight", "bias"):
        head = getattr(smps.segmentation_head[0], key)
        assert torch.equal(getattr(model.head(1), key), head)


def test_older_names_half_precision_and_missing_counts(
    smps: torch.nn.Module, tmp_path: Path
) -> None:
    renamed = {"decoder.aspp.": "decoder.0.", "decoder.conv.": "decoder.1.", "decoder.bn.": ""}
    renamed["decoder.bn."] = "decoder.2."
    state = {}
    for name, tensor in smps.state_dict().items():
        for new, old in renamed.items():
            name = name.replace(new, old)
        if not name.endswith("num_batches_tracked"):
            state[f"module.{name}"] = tensor.half()
    torch.save(state, tmp_path / "old.pth")
    model = foreign.recognise(tmp_path / "old.pth").converted(3).model([3])
    assert {t.dtype for t in model.state_dict().values()} == {torch.float32, torch.int64}
    weight = smps.segmentation_head[0].weight.half().double()
    assert torch.equal(model.head(1).weight, (weight[1:] - weight[0]).float())


FAULTS = {
    "another": (
        lambda s: [s.pop(n) for n in list(s) if n.startswith("encoder.layer4.1.conv2")],
        r"no architecture fits; nearest is segmentation_models_pytorch's DeepLabV3 \(resnet18\), "
        r"but tensor 'encoder.layer4.1.conv2.weight' is missing. Tried: .*torchvision's deeplabv3_",
    ),
    "more": (
        lambda s: s.update({"encoder.layer5.weight": torch.zeros(1), "x": torch.zeros(1)}),
        r"resnet18\), but tensor 'encoder.layer5.weight' is unexpected \(2 such\)",
    ),
    "shape": (
        lambda s: s.update({"segmentation_head.0.weight": torch.zeros(4, 24, 3, 3)}),
        "tensor 'segmentation_head.0.weight' is of another shape",
    ),
    "NaN": (
        lambda s: s["decoder.bn.weight"].fill_(float("nan")),
        "tensor 'decoder.bn.weight' holds NaN",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_fits_no_architecture_is_named(
    smps: torch.nn.Module, tmp_path: Path, fault: str
) -> None:
    change, message = FAULTS[fault]
    state = {name: tensor.clone() for name, tensor in smps.state_dict().items()}
    change(state)
    torch.save(state, tmp_path / "m.pth")
    with pytest.raises(UserError, match=message) as raised:
        foreign.recognise(tmp_path / "m.pth")
    assert "\n" not in str(raised.value)


def test_a_head_of_another_number_of_channels(smps: torch.nn.Module, tmp_path: Path) -> None:
    torch.save(smps.state_dict(), tmp_path / "m.pth")
    found = foreign.recognise(tmp_path / "m.pth")
    message = r"4 names, but .*m\.pth has 4 channels; name those of a softmax .* \(3\), or of sigm"
    with pytest.raises(UserError, match=message):
        found.converted(4)
    with pytest.raises(UserError, match="--background 4: channels are 0 to 3"):
        found.converted(3, background=4)


def test_torchvisions_script_saves_what_is_no_tensor(tmp_path: Path) -> None:
    content = {"model": {"a": torch.zeros(1)}, "args": argparse.Namespace(lr=0.1)}
    message = r"holds argparse\.Namespace, and nothing.*save content\['model'\] alone"
    with pytest.raises(UserError, match=message):
        foreign.read_state(save(content, tmp_path))
    with pytest.raises(UserError, match=r"Linear, and nothing.*save model\.state_dict\(\) alone"):
        foreign.read_state(save(torch.nn.Linear(1, 1), tmp_path))


CONFIGS = {
    "_model_class": ("Unet", r"_model_class is 'Unet'; only 'DeepLabV3' can be read"),
    "in_channels": (4, "in_channels is 4; only 3 can be read"),
    "upsampling": (4, "upsampling 4 is not the output stride"),
    "encoder_output_stride": (7, r"config\.json: output_stride: .*7"),
}


@pytest.mark.parametrize("key", CONFIGS)
def test_descriptions_of_other_models(smps: torch.nn.Module, tmp_path: Path, key: str) -> None:
    value, message = CONFIGS[key]
    smps.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(UserError, match=message):
        foreign.recognise(tmp_path)


def test_folders_and_files_that_cannot_be_read(smps: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json: No such file"):
        foreign.recognise(tmp_path)
    smps.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        foreign.recognise(tmp_path)
    weights.unlink()
    with pytest.raises(UserError, match=r"holds none of model\.safetensors"):
        foreign.recognise(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        foreign.recognise(tmp_path)
