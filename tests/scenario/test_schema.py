"""Scenarios as YAML: what is accepted, what is refused and how it is told."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.scenarios import DOCUMENT, changed
from hypothesis import given
from hypothesis import strategies as st

from dkd.errors import UserError
from dkd.scenario.parsing import dump, load, parse_assignments
from dkd.scenario.schema import Scenario, parse


def scenario() -> Scenario:
    return parse(DOCUMENT, "test")


def test_defaults_and_values() -> None:
    made = scenario()
    assert made.task == (("cat", 2), ("sheep",))
    assert (made.setting, made.protocol, made.method) == ("overlap", "corrected", "star")
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
    ],
)
def test_a_bad_field_is_named_in_one_line(field: str, value: Any, message: str) -> None:
    with pytest.raises(UserError) as raised:
        parse(changed(field, value), "my.yaml")
    assert str(raised.value).startswith(f"my.yaml: {message}")
    assert "\n" not in str(raised.value)


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


@pytest.mark.parametrize("document", [None, [], "text", 5])
def test_what_is_no_mapping_is_refused(document: object) -> None:
    with pytest.raises(UserError, match=r"^x: "):
        parse(document, "x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "not YAML"),
        (b"\xff\xfe\x00", "not YAML"),
        (b"name: a\nseed: 1\nname: b", r"s.yaml: line 3: name appears twice, first in line 1"),
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
