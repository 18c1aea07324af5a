"""Where jobs run: what is refused."""

from typing import Any

import pytest
from fixtures.scenarios import changed

from dkd.errors import UserError
from dkd.scenario.launch import Launch
from dkd.scenario.schema import parse


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
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
    ("field", "value"),
    [
        ("memory", "16 GB"),
        ("cpu", "-1"),
        ("namespace", "Team"),
        ("gpu_resource", "gpu"),
        ("deadline", 5),
        ("gpus_per_node", 3),
        ("tolerations", [{"key": "a", "colour": "red"}]),
        ("scratch", "much"),
        ("extended_resources", {"hca": 1}),
        ("extended_resources", {"rdma/hca": 0}),
        ("environment", {"PET_NNODES": "2"}),  # the operators refuse it
        ("environment", {"AWS_SECRET_ACCESS_KEY": "x"}),  # scenarios are published
        ("environment", {"1A": "x"}),
        ("volumes", [{"path": "data", "claim": "images"}]),
        ("volumes", [{"path": "/data"}]),
        ("volumes", [{"path": "/data", "claim": "a", "secret": "b"}]),
        ("volumes", [{"path": "/data", "secret": "b", "writable": True}]),
        ("volumes", [{"path": "/tmp/", "claim": "a"}]),
        ("volumes", [{"path": "/a", "claim": "a"}, {"path": "/a/", "claim": "b"}]),
        ("node_affinity", [{"key": "zone"}]),
        ("node_affinity", [{"key": "zone", "operator": "Exists", "values": ["a"]}]),
        ("node_affinity", [{"key": "memory", "operator": "Gt", "values": ["1", "2"]}]),
    ],
)
def test_bad_settings_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        Launch.model_validate({field: value})
