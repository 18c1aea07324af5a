"""The method that docs/reference/methods.md shows is complete: it trains two steps as it stands."""

import re
import sys
import tomllib
from pathlib import Path

import pytest
from safetensors.torch import load_file
from step_runs import Run, scenario

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "methods.md"


def test_the_example_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    page = PAGE.read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    (declared,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    ((group, entries),) = tomllib.loads(declared)["project"]["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    installed = tmp_path / "site" / "my_package-1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Name: my_package\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("\n".join(lines))
    (tmp_path / "site" / "my_package.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "my_package", raising=False)

    run = Run(tmp_path / "root", scenario(method="features", memory_size=0))
    first = run.step(0)
    second = run.step(1)
    assert {"mbce", "ac", "features", "total"} < second.metadata["curve"][0].keys()
    kept = [
        int(load_file(m.part_uri("statistics.safetensors"))["labelled"]) for m in (first, second)
    ]
    assert 0 < kept[0] < kept[1]
