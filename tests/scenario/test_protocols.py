"""The protocols differ in every switch, and in nothing that is not one."""

from dataclasses import fields

from dkd.scenario.protocols import PROTOCOLS, Protocol


def test_every_switch_tells_them_apart() -> None:
    paper, corrected = PROTOCOLS["paper"], PROTOCOLS["corrected"]
    for field in fields(Protocol):
        assert getattr(paper, field.name) != getattr(corrected, field.name), field.name


def test_each_has_the_name_it_is_found_by() -> None:
    assert {name: each.name for name, each in PROTOCOLS.items()} == {n: n for n in PROTOCOLS}
