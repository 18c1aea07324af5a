"""The network of a scenario: its defaults, and how keys and checkpoints describe it."""

from typing import Any

import pytest
from fixtures.scenarios import changed

from dkd.errors import UserError
from dkd.scenario.network import Network
from dkd.scenario.schema import parse
from dkd.scenario.strict_model import parse_part


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("network.backbone", "vgg", "network.backbone: "),
        ("network.weights", " ", "network: weights: empty; write imagenet, none, or a file's"),
        ("network.weights", "http://u:p@h/a.pth", "network: weights: an address with a key in"),
        ("network.weights", "https://h/a.pth?key=1", "network: weights: an address with a key in"),
        (
            "network",
            {"backbone": "demo", "weights": "imagenet"},
            "network: weights: there are no ImageNet weights of the backbone demo; write none",
        ),
    ],
)
def test_a_bad_field_is_named_in_one_line(field: str, value: Any, message: str) -> None:
    with pytest.raises(UserError) as raised:
        parse(changed(field, value), "my.yaml")
    assert str(raised.value).startswith(f"my.yaml: {message}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("network", "start"),
    [
        ({}, "imagenet"),
        ({"backbone": "mobilenet_v2"}, "imagenet"),
        ({"backbone": "resnet18", "weights": "none"}, "none"),
        ({"backbone": "resnet18", "weights": "w.pth"}, "w.pth"),
        ({"backbone": "demo"}, "none"),
        ({"backbone": "demo", "weights": "none"}, "none"),
    ],
)
def test_what_a_network_starts_from(network: dict[str, str], start: str) -> None:
    assert parse(changed("network", network), "x").network.initial_weights == start


def test_another_backbone_starts_from_its_own_weights() -> None:
    demo = parse(changed("network", {"backbone": "demo"}), "x")
    assert demo.override({"network.backbone": "resnet18"}).network.initial_weights == "imagenet"


def test_a_networks_structure_says_what_is_not_usual() -> None:
    usual = {"backbone": "resnet50", "aspp_channels": 256}
    same = Network(
        backbone="resnet50", output_stride=16, aspp_dilations=(6, 12, 18), aspp_dropout=0.1
    )
    assert Network(backbone="resnet50").structure() == same.structure() == usual
    other = Network(
        backbone="resnet50", output_stride=8, aspp_dilations=(12, 24, 36), aspp_dropout=0.5
    )
    described = {
        **usual,
        "output_stride": 8,
        "aspp_dilations": [12, 24, 36],
        "aspp_dropout": 0.5,
    }
    assert other.structure() == described
    assert Network.of_structure({**described, "pretrained": True}) == other
    smps = Network(backbone="resnet50", whole_stage_dilation=True, align_corners=True)
    described = {**usual, "whole_stage_dilation": True, "align_corners": True}
    assert smps.structure() == described
    centred = Network(backbone="resnet50", mean=(0.5, 0.5, 0.5), std=(1, 1, 1))
    described = {**usual, "mean": [0.5, 0.5, 0.5], "std": [1, 1, 1]}
    assert centred.structure() == described
    assert Network.of_structure(described) == centred


def test_only_resnets_have_whole_stages_dilated() -> None:
    document = {"backbone": "mobilenet_v2", "whole_stage_dilation": True}
    with pytest.raises(UserError, match="whole_stage_dilation: is for ResNets, not for mobile"):
        parse_part(Network, document, "", within="network")


@pytest.mark.parametrize("stride", [4, 12, 32])
def test_output_strides_are_8_or_16(stride: int) -> None:
    document = {"backbone": "resnet50", "output_stride": stride}
    with pytest.raises(UserError, match=r"^network\.output_stride: .*\d"):
        parse_part(Network, document, "", within="network")


def test_the_demonstrations_backbone_has_its_own_strides() -> None:
    document = {"backbone": "demo", "output_stride": 16}
    with pytest.raises(UserError, match="output_stride: of demo it is 4 or 8, not 16"):
        parse_part(Network, document, "", within="network")


def test_packages_are_asked_only_for_a_backbone_that_is_not_our_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Finding what is installed takes longer than checking the whole of a scenario."""
    asked = []

    def entry_points(**group: str) -> tuple[()]:
        asked.append(group)
        return ()

    monkeypatch.setattr("dkd.scenario.backbones.entry_points", entry_points)
    parse(changed("network.backbone", "resnet18"), "my.yaml")
    assert asked == []
    with pytest.raises(UserError, match="vgg"):
        parse(changed("network.backbone", "vgg"), "my.yaml")
    assert asked
