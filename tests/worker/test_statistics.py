"""Statistics of a model whose method kept none."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from step_runs import ALONE, Run, scenario

from dkd.data.packed import open_dataset
from dkd.errors import UserError
from dkd.scenario.data import Data
from dkd.storage import artifacts
from dkd.worker import statistics


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))


def publish(run: Run, source: str, uri: Path, variant: str = "full") -> artifacts.Manifest:
    dataset, _ = open_dataset(run.prepared.dataset)
    data = Data(format="folder", root=dataset.root)
    made = statistics.publish(
        source, dataset, Path(dataset.root), data, variant, str(uri), ALONE, run.said.append
    )
    assert made is not None
    return made


@pytest.mark.parametrize("variant", ["full", "basic"])
def test_they_are_what_star_keeps_after_one_step(tmp_path: Path, variant: str) -> None:
    """At a rate at which no weight moves, so that both models are the same."""
    still = {"training.lr.first": 1e-30, "training.weight_decay": 0, "training.epochs.first": 1}
    options = {"method_options.variant": variant}
    kept = Run(tmp_path / "star", scenario(method="star", memory_size=0, **still, **options))
    theirs = load_file(kept.step(0).part_uri("statistics.safetensors"))
    run = Run(tmp_path / "dkd", scenario(memory_size=0, **still))
    before = run.step(0)
    made = publish(run, before.uri, tmp_path / "made", variant)
    ours = load_file(made.part_uri("statistics.safetensors"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], table) for name, table in theirs.items())
    assert made.parts["model.safetensors"].sha256 == before.parts["model.safetensors"].sha256
    again = publish(run, before.uri, tmp_path / "again", variant)
    assert again.digest == made.digest != before.digest


def test_star_goes_on_from_them(tmp_path: Path) -> None:
    run = Run(tmp_path / "root", scenario(memory_size=0))
    run.step(0)
    run.teacher = publish(run, run.step(1).uri, tmp_path / "made").uri
    run.scenario = scenario(method="star", memory_size=0)
    kept = load_file(run.step(2).part_uri("statistics.safetensors"))
    assert kept["prototypes"].shape == (7, 16)


def test_what_they_cannot_be_of(tmp_path: Path) -> None:
    run = Run(tmp_path / "root", scenario(memory_size=0))
    first = run.step(0)
    made = publish(run, first.uri, tmp_path / "made")
    softmax = Run(tmp_path / "mib", scenario(method="mib", memory_size=0)).step(0)
    cases: list[tuple[str, str]] = [
        (run.prepared.dataset, "is a dataset, not a checkpoint"),
        (made.uri, "already keeps these statistics; nothing to do"),
        (softmax.uri, "has a background channel, so star cannot continue it"),
    ]
    for uri, message in cases:
        with pytest.raises(UserError, match=message) as told:
            publish(run, uri, tmp_path / "other")
        assert str(told.value).startswith(f"{uri}: ")
        assert "\n" not in str(told.value)
    with pytest.raises(UserError, match="another checkpoint is already there; name another place"):
        publish(run, first.uri, tmp_path / "root" / "checkpoints" / first.uri.rsplit("/", 1)[-1])
