"""Weight fusion as an option of any method."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from step_runs import Run, scenario

from dkd.network.fusion import new_share
from dkd.steps.step import Step


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))


def weights(manifest: Any) -> dict[str, torch.Tensor]:
    return load_file(manifest.part_uri("model.safetensors"))


@pytest.mark.parametrize("method", ["dkd", "mib", "star"])
def test_a_fused_model_lies_between_teacher_and_student(tmp_path: Path, method: str) -> None:
    """Without momentum and after one iteration: old heads aside, both students are the same."""
    values: dict[str, Any] = {"method": method, "memory_size": 0, "training.epochs.later": 1}
    run = Run(tmp_path / "root", scenario(**values))
    teacher = run.step(0)
    uri = teacher.uri
    fused, plain = [], []
    for options, found in (({"fuse": True}, fused), ({}, plain)):
        run.scenario, run.teacher = scenario(**values, method_options=options), uri
        found.append(weights(run.step(1)))
    before, after, between = weights(teacher), plain[0], fused[0]
    share = new_share(2, 7)
    frozen = 0 if method == "mib" else 1
    for name, start in before.items():
        head = name.split(".")[1] if name.startswith("cls.") else None
        if head is not None and int(head) >= frozen and name != "cls.0.bias":
            assert torch.equal(between[name], start), name  # heads of old classes learn nothing
        elif name.startswith("backbone.stem.0.0"):
            moved = (after[name] - start).norm()
            assert moved > 0
            gone = (between[name] - start).norm()
            assert float(gone / moved) == pytest.approx(share, rel=0.1), name
    assert between.keys() == after.keys()


def test_the_first_step_does_not_depend_on_it(tmp_path: Path) -> None:
    keys = []
    for options in ({}, {"fuse": True}):
        run = Run(tmp_path / "root", scenario(memory_size=0, method_options=options))
        keys.append(Step.open(run.spec(0)).checkpoint_uri)
    assert keys[0] == keys[1]
