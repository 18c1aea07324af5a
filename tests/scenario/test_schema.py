"""Scenarios as YAML: what is accepted, what is refused and how it is told."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dkd.errors import UserError
from dkd.scenario.parsing import dump, load, parse_assignments
from dkd.scenario.schema import Launch, Network, Scenario, parse, parse_part

DOCUMENT: dict[str, Any] = {
    "name": "pets",
    "data": {"format": "folder", "root": "/data"},
    "task": [["cat", 2], ["sheep"]],
    "training": {
        "epochs": {"first": 3, "later": 2},
        "batch_size": 4,
        "lr": {"first": 0.01, "later": 0.001},
    },
    "variants": {"M": {"memory_size": 5}, "joint": {"method": "joint"}},
}


def scenario() -> Scenario:
    return parse(DOCUMENT, "test")


def changed(field: str, value: Any) -> dict[str, Any]:
    """The document with one field, by dotted name, replaced."""
    head, _, rest = field.partition(".")
    if not rest:
        return {**DOCUMENT, head: value}
    return {**DOCUMENT, head: {**DOCUMENT.get(head, {}), rest: value}}


def test_defaults_and_values() -> None:
    made = scenario()
    assert made.task == (("cat", 2), ("sheep",))
    assert (made.setting, made.protocol, made.method) == ("overlap", "corrected", "dkd")
    assert made.training.epochs.at(0) == 3
    assert made.training.epochs.at(5) == 2
    assert made.training.lr.at(1) == 0.001


def test_dump_and_load_are_inverse(tmp_path: Path) -> None:
    made = scenario().override({"training.crop": 64, "losses": {"kd": 0.0}})
    (tmp_path / "s.yaml").write_text(dump(made))
    assert load(tmp_path / "s.yaml") == made


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "Bad Name", "name: "),
        ("setting", "mixed", "setting: "),
        ("protocol", "best", "protocol: "),
        ("memory_size", -1, "memory_size: "),
        ("seed", "one", "seed: "),
        ("seed", -1, "seed: "),
        ("losses", {"kd": -1}, "losses.kd: "),
        ("colour", "red", "colour: "),
        ("data.root", "", "data: root: say where the data set is"),
        ("data.format", "tar", "data.format: "),
        ("training.crop", 8, "training.crop: "),
        ("training.batch_size", 0, "training.batch_size: "),
        ("training.epochs", {"first": 0, "later": 1}, "training.epochs.first: "),
        ("training.lr", {"first": 1}, "training.lr.later: "),
        ("training.precision", "fp8", "training.precision: "),
        ("network.backbone", "vgg", "network.backbone: "),
        (
            "training.pos_weight",
            {"later": "much"},
            "training.pos_weight.later: Input should be 'auto', not",
        ),
        ("network.weights", " ", "network: weights: empty; write imagenet, none, or a file's"),
        ("network.weights", "http://u:p@h/a.pth", "network: weights: an address with a key in"),
        ("network.weights", "https://h/a.pth?key=1", "network: weights: an address with a key in"),
        (
            "network",
            {"backbone": "demo", "weights": "imagenet"},
            "network: weights: there are no ImageNet weights of the backbone demo; write none",
        ),
        ("launch.nodes", 0, "launch.nodes: "),
        ("launch.memory", "8 gigabytes", "launch.memory: "),
        ("launch.gpus_per_node", 2, "launch: gpus_per_node: 2 GPUs for processes_per_node=1"),
    ],
)
def test_a_bad_field_is_named_in_one_line(field: str, value: Any, message: str) -> None:
    with pytest.raises(UserError) as raised:
        parse(changed(field, value), "my.yaml")
    assert str(raised.value).startswith(f"my.yaml: {message}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("seed", True, "seed: Input should be a valid integer, not true"),
        ("seed", 3.0, "seed: Input should be a valid integer, not 3.0"),
        ("seed", "3", "seed: Input should be a valid integer, not '3'; write it as a number"),
        ("data.pack", "yes", "data.pack: Input should be a valid boolean, not 'yes'; write true"),
        ("data.pack", 1, "data.pack: Input should be a valid boolean, not 1"),
        ("label", 12, 'label: Input should be a valid string, not 12; as text it is written "12"'),
        ("label", False, "label: Input should be a valid string, not false; as text it is written"),
        ("label", None, "label: Input should be a valid string, not null; empty text is written"),
        (
            "training.momentum",
            "0.9",
            "training.momentum: .*valid number, not '0.9'; write it",
        ),
        ("training.momentum", "inf", "training.momentum: .*a valid number, not 'inf'$"),
        (
            "training.momentum",
            False,
            "training.momentum: .*a valid number, not false",
        ),
        (
            "launch.node_selector",
            {"gpu": True},
            "launch.node_selector.gpu: .*a valid string",
        ),
        ("task", [["dog"], [True]], "task.1.0: a class is a name or a label value, not true; as a"),
        ("task", [["dog"], [1.5]], "task.1.0: a class is a name or a label value, not 1.5; as a"),
        ("task", [["dog"], ["cat", None]], 'task.1.1: .*; as a name it is written "null"'),
        ("task", [["dog"], [["cat"]]], "task.1.0: a class is a name or a label value; a task is"),
        ("task", [["dog"], [0]], r"task.1.0: label values of classes are 1\.\.254, not 0"),
        ("task", [["dog"], [255]], r"task.1.0: label values of classes are 1\.\.254, not 255"),
        ("task", [["dog"], []], "task.1: .*at least 1 item"),
        ("task", [], "task: .*at least 1 item"),
        ("task", [["dog"], [" "]], "task.1.0: a class's name is empty"),
        ("task", [["Background"]], "task.0.0: class 'Background': background is label value 0"),
        ("task", "dog", "task: Input should be a valid tuple, not 'dog'"),
    ],
)
def test_types_are_not_converted(field: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"^x: {message}"):
        parse(changed(field, value), "x")


def test_a_field_that_is_not_there_is_no_such_field() -> None:
    """Also where a colon without a space made one of a field and its value."""
    with pytest.raises(UserError, match=r"^x: network\.widht: no such field$"):
        parse(changed("network.widht", 3), "x")
    says = r"^x: network\.backbone:resnet18: no such field; in YAML a space follows the colon$"
    with pytest.raises(UserError, match=says):
        parse(changed("network", {"backbone:resnet18": None}), "x")


BAD_NUMBERS = [float("nan"), float("inf"), -float("inf"), -1.0, 1e300]


@pytest.mark.parametrize("value", BAD_NUMBERS)
@pytest.mark.parametrize(
    "field",
    [
        "training.lr.first",
        "training.lr.later",
        "training.pos_weight.first",
        "training.pos_weight.later",
        "training.momentum",
        "training.weight_decay",
        "training.save_interval",
        "losses.kd",
        "losses.dkd_neg",
    ],
)
def test_numbers_that_no_training_can_use(field: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"^{field}: Input should be ") as raised:
        scenario().override({field: value})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "field",
    [
        "seed",
        "data.digits.seed",
        "data.digits.train",
        "memory_size",
        "network.aspp_channels",
        "training.epochs.first",
        "training.epochs.later",
        "training.batch_size",
        "training.crop",
        "training.loader_workers",
        "speed.evaluation_batch",
        "launch.nodes",
        "launch.processes_per_node",
        "launch.threads",
        "launch.deadline",
        "launch.max_restarts",
    ],
)
@pytest.mark.parametrize("value", [2**64, -(2**64), 10**290])
def test_sizes_that_nothing_has(field: str, value: int) -> None:
    with pytest.raises(UserError, match=rf"^{field}: Input should be ") as raised:
        scenario().override({field: value})
    assert len(str(raised.value)) < 250


def test_every_number_is_bounded_below_and_above() -> None:
    """So that a new field cannot be forgotten."""
    unbounded = []

    def look(schema: dict[str, Any], definitions: dict[str, Any], where: str) -> None:
        if "$ref" in schema:
            schema = definitions[schema["$ref"].rpartition("/")[2]]
        if schema.get("type") in ("integer", "number"):
            low = {"minimum", "exclusiveMinimum"} & schema.keys()
            high = {"maximum", "exclusiveMaximum"} & schema.keys()
            if not (low and high):
                unbounded.append(where)
        for name, inner in schema.get("properties", {}).items():
            look(inner, definitions, f"{where}.{name}")
        for inner in (
            *schema.get("anyOf", ()),
            schema.get("items"),
            schema.get("additionalProperties"),
        ):
            if isinstance(inner, dict):
                look(inner, definitions, where)

    whole = Scenario.model_json_schema()
    look(whole, whole["$defs"], "")
    assert set(unbounded) == {".task"}  # whose label values are looked at by a function


def test_one_number_does_not_stand_for_a_group() -> None:
    message = "training.epochs: set its fields: training.epochs.first, training.epochs.later"
    with pytest.raises(UserError, match=rf"^{message}$"):
        scenario().override({"training.epochs": 30})


def test_others_are_counted() -> None:
    with pytest.raises(UserError, match=r"\(and 1 more\)$"):
        parse({**DOCUMENT, "seed": -1, "memory_size": -1}, "x")


@pytest.mark.parametrize("document", [None, [], "text", 5])
def test_what_is_no_mapping_is_refused(document: object) -> None:
    with pytest.raises(UserError, match=r"^x: "):
        parse(document, "x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "not YAML"),
        (b"\xff\xfe\x00", "not YAML"),
        (b"name: a\nseed: 1\nname: b", r"s.yaml: line 3: name stands there twice, first in line 1"),
        (b"name: &a b", r"s.yaml: line 1: anchors \(&a\) are not read"),
        (b"", "valid dictionary"),
        (yaml.safe_dump(changed("variants", {"x": {"crop": 1}})).encode(), "crop: no such field"),
        (yaml.safe_dump(changed("variants", {"x": {"seed": -1}})).encode(), "seed: "),
    ],
)
def test_bad_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "s.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message) as raised:
        load(file)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.yaml: No such file or directory; name a scenario"):
        load(tmp_path / "none.yaml")


def test_overrides_by_dotted_name() -> None:
    made = scenario().override({"training.lr.first": 0.5, "losses.kd": 0, "method": "finetune"})
    assert made.training.lr.first == 0.5
    assert made.training.lr.later == 0.001
    assert made.losses == {"kd": 0}
    assert made.method == "finetune"
    assert scenario() == parse(DOCUMENT, "test")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("crop", "crop: no such field; there are name, label"),
        ("training.lr.middle", "training.lr.middle: no such field; there are first, later"),
        ("training.crop.x", "training.crop.x: no such field"),
        ("nothing.x", "nothing.x: no such field"),
    ],
)
def test_unknown_fields_are_refused(field: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        scenario().override({field: 1})
    assert message in str(raised.value)


def test_variants() -> None:
    made = scenario().variant("M")
    assert (made.label, made.memory_size, made.variants) == ("M", 5, {})
    assert scenario().variant("joint").method == "joint"
    with pytest.raises(UserError, match="variant 'x': scenario pets has M, joint"):
        scenario().variant("x")


def test_assignments_are_yaml() -> None:
    items = ["seed=3", "training.lr={first: 1e-3, later: 1.0e-4}", "label=", "data.root=a=b"]
    assert parse_assignments(items) == {
        "seed": 3,
        "training.lr": {"first": 1e-3, "later": 1e-4},  # text to YAML 1.1: 1e-3 lacks the dot
        "label": None,
        "data.root": "a=b",
    }


def test_the_last_assignment_counts() -> None:
    assert parse_assignments(["seed=1", "training.crop=32", "seed=2"])["seed"] == 2


@pytest.mark.parametrize("item", ["seed", "=3", "seed=[", ""])
def test_bad_assignments_are_refused(item: str) -> None:
    with pytest.raises(UserError, match=r"^--set "):
        parse_assignments([item])


def test_rates_may_be_written_without_a_dot() -> None:
    made = scenario().override(parse_assignments(["training.lr.first=1e-3"]))
    assert made.training.lr.first == 1e-3


@given(st.integers(0, 2**31), st.integers(0, 1000), st.floats(1e-6, 1, allow_nan=False))
def test_values_survive_yaml(seed: int, memory: int, rate: float) -> None:
    made = scenario().override(
        {"seed": seed, "memory_size": memory, "training.lr.first": rate, "training.lr.later": rate}
    )
    assert parse(yaml.safe_load(dump(made)), "again") == made


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


def test_the_demonstrations_backbone_has_its_own_stride() -> None:
    document = {"backbone": "demo", "output_stride": 8}
    with pytest.raises(UserError, match="output_stride: of demo it is 4, not 8"):
        parse_part(Network, document, "", within="network")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory", "16 GB"),
        ("cpu", "-1"),
        ("namespace", "Team"),
        ("gpu_resource", "gpu"),
        ("deadline", 5),
        ("gpus_per_node", 3),
        ("tolerations", [{"key": "a", "colour": "red"}]),
    ],
)
def test_bad_settings_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        Launch.model_validate({field: value})
