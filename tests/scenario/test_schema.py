"""Scenarios as YAML: what is accepted, what is refused and how it is told."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dkd.errors import UserError
from dkd.scenario.parsing import dump, load, parse_assignments
from dkd.scenario.schema import Scenario, parse

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
    assert made.steps == 2


def test_dump_and_load_are_inverse(tmp_path: Path) -> None:
    made = scenario().override({"training.crop": 64, "losses": {"kd": 0.0}})
    (tmp_path / "s.yaml").write_text(dump(made))
    assert load(tmp_path / "s.yaml") == made


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "Bad Name", "name: "),
        ("method", "magic", "method: 'magic' is none of dkd, finetune, joint"),
        ("setting", "mixed", "setting: "),
        ("protocol", "best", "protocol: "),
        ("memory_size", -1, "memory_size: "),
        ("seed", "one", "seed: "),
        ("seed", -1, "seed: "),
        ("losses", {"magic": 1}, "losses.magic: no such loss; there are mbce"),
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
        ("losses.magic", "losses.magic: no such loss"),
    ],
)
def test_unknown_fields_are_refused(field: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        scenario().override({field: 1})
    assert message in str(raised.value)


def test_variants() -> None:
    made = scenario().variant("M")
    assert (made.label, made.memory_size, made.variants) == ("M", 5, {})
    assert scenario().variant("joint").steps == 1
    with pytest.raises(UserError, match="variant 'x': scenario pets has M, joint"):
        scenario().variant("x")


def test_assignments_are_yaml() -> None:
    items = ["seed=3", "training.lr={first: 1e-3, later: 1.0e-4}", "label=", "data.root=a=b"]
    assert parse_assignments(items) == {
        "seed": 3,
        "training.lr": {"first": "1e-3", "later": 1e-4},  # YAML 1.1: 1e-3 lacks the dot
        "label": None,
        "data.root": "a=b",
    }


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
