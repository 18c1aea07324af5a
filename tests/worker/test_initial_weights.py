"""What a step's network starts from: loaded, told first, in the key, the checkpoint, the report."""

import io
from pathlib import Path

import pytest
import torch
from fixtures.web import named
from step_runs import Run, scenario

from dkd.report import collect
from dkd.steps.initial_weights import fetched, imagenet_uri
from dkd.steps.stages import lineage
from dkd.steps.step import Step
from dkd.storage import artifacts
from dkd.training.loop import Trainer
from dkd.worker.initial_weights import publish


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))


def started(root: Path, weights: str, backbone: str = "mobilenet_v2") -> Run:
    values = {"network.backbone": backbone, "network.weights": weights, "memory_size": 0}
    return Run(root, scenario(**values))


def put(root: Path, content: bytes) -> artifacts.Manifest:
    """A file of weights as the root's ImageNet weights of MobileNetV2."""
    path = root.parent / named("mobilenet_v2", content)
    path.write_bytes(content)
    with fetched(str(path)) as file:
        return publish(file, "mobilenet_v2", imagenet_uri(str(root), "mobilenet_v2"))


def test_a_step_0_starts_from_them_and_says_so(
    tmp_path: Path, mobilenet: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = put(tmp_path / "root", mobilenet)
    seen: list[dict[str, torch.Tensor]] = []
    before = Trainer.run

    def run(self: Trainer, *given: object) -> object:
        seen.append({k: v.clone() for k, v in self.student.backbone.state_dict().items()})
        return before(self, *given)

    monkeypatch.setattr(Trainer, "run", run)
    run_ = started(tmp_path / "root", "imagenet")
    checkpoint = run_.step(0)
    state = torch.load(io.BytesIO(mobilenet), weights_only=True)
    assert all(torch.equal(value, state[key]) for key, value in seen[0].items())
    name = named("mobilenet_v2", mobilenet)
    told = f"weights that are not torchvision's, {name}, sha256 "
    assert run_.said[0].startswith(f"step 0 starts from {told}")
    assert run_.said[0].endswith(f"digest {kept.digest[:16]}")
    assert checkpoint.metadata["initial_weights"]["digest"] == kept.digest
    assert lineage(checkpoint)["initial_weights_digest"] == kept.digest
    job = run_.job(1)
    job.perform("train")
    assert f"step 1 starts from its teacher {checkpoint.uri}, digest {checkpoint.digest[:16]}" in (
        run_.said
    )


def test_random_ones_are_told_too(tmp_path: Path) -> None:
    run = Run(tmp_path, scenario(memory_size=0))
    checkpoint = run.step(0)
    assert run.said[0] == "step 0 starts from random weights (network.weights: none)"
    prepared, made = run.prepared, [checkpoint.uri]
    result = collect.gather(
        run.scenario, prepared.task, prepared.dataset, "test", made, [run.evaluation], [""]
    )
    assert result.steps[0].start == "random weights (network.weights: none)"
    assert "random weights (network.weights: none)" in collect.page([result])
    assert checkpoint.metadata["initial_weights"] == {"name": "none"}


def test_the_key_holds_their_content(tmp_path: Path, mobilenet: bytes) -> None:
    state = torch.load(io.BytesIO(mobilenet), weights_only=True)
    state["features.0.0.weight"] *= 1.5
    buffer = io.BytesIO()
    torch.save(state, buffer)
    places = {}
    for name, content in (("a", mobilenet), ("b", buffer.getvalue()), ("c", mobilenet)):
        put(tmp_path / name, content)
        run = started(tmp_path / name, "imagenet")
        places[name] = Step.open(run.spec(0)).checkpoint_uri.rsplit("/", 1)[-1]
    run = started(tmp_path / "d", "none")
    places["d"] = Step.open(run.spec(0)).checkpoint_uri.rsplit("/", 1)[-1]
    assert places["a"] == places["c"]
    assert len(set(places.values())) == 3
