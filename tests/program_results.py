"""What this program computes on a few made images, by which its number is kept honest.

    python tests/program_results.py        records it anew in program_results.json

Two steps of every method, whole: data, crops, losses, optimiser, exemplars, scores. In float64, so
that processors and their libraries differ by some 1e-12 and not by what a change of the program
could be: figures are compared to 1e-6, and what is decided by them (which exemplars, which class a
pixel is) exactly. Random numbers are PyTorch's, so the record is one version's of PyTorch.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from step_runs import Run, scenario

from dkd.network.deeplab import SegmentationModel
from dkd.steps import step
from dkd.storage import artifacts

RECORD = Path(__file__).with_suffix(".json")
CASES: dict[str, dict[str, object]] = {
    "dkd, corrected": {"method": "dkd", "protocol": "corrected"},
    "star, paper": {"method": "star", "protocol": "paper", "training.pos_weight.later": 1},
    "mib, corrected, fused": {"method": "mib", "method_options": {"fuse": True}},
    "plop, paper": {"method": "plop", "protocol": "paper"},
}
SMALL: dict[str, object] = {
    "data.digits.train": 30,
    "task": [["zero", "one", "two", "three"], ["four", "five"]],
    "memory_size": 4,
    "training.epochs.first": 1,
    "training.epochs.later": 1,
    "training.batch_size": 4,
}


@contextmanager
def float64() -> Iterator[None]:
    """Models and all that they compute in float64; images are converted where they come in."""
    features = SegmentationModel.features
    torch.set_default_dtype(torch.float64)
    SegmentationModel.features = lambda self, images: features(self, images.double())
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        SegmentationModel.features = features


def results(case: str, root: Path) -> list[dict[str, Any]]:
    """What a case computes, step by step."""
    with float64():
        run = Run(root, scenario(**SMALL, **CASES[case]))
        return [_of_step(run, number) for number in range(2)]


def _of_step(run: Run, number: int) -> dict[str, Any]:
    checkpoint = run.step(number)
    weights = load_file(checkpoint.part_uri("model.safetensors"))
    evaluation, memory = artifacts.load(run.evaluation), artifacts.load(run.memory)
    exemplars = step.read_json(memory, step.MEMORY)["exemplars"]
    return {
        "curve": checkpoint.metadata["curve"],
        "norms": [float(tensor.double().norm()) for _, tensor in sorted(weights.items())],
        "confusion": step.read_json(evaluation, step.EVALUATION)["confusion"],
        "exemplars": [exemplar["id"] for exemplar in exemplars],
    }


def record(found: dict[str, Any]) -> None:
    """Writes the record, unless it is another one under the same number.

    Raises:
        SystemExit: results changed and the number did not.
    """
    document = {"program": step.PROGRAM, "torch": version(), "results": found}
    if RECORD.exists():
        before = json.loads(RECORD.read_text())
        same_program = before["program"] == step.PROGRAM and before["torch"] == document["torch"]
        if same_program and (changed := differences(before["results"], found)):
            raise SystemExit(f"{changed[0]}: results changed; raise PROGRAM in dkd/steps/step.py")
    RECORD.write_text(json.dumps(document, indent=1) + "\n")


def version() -> str:
    """PyTorch's, without how it was built."""
    return torch.__version__.split("+")[0]


def differences(one: Any, other: Any, place: str = "") -> list[str]:
    """Where two results differ by more than processors do."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [d for key in one for d in differences(one[key], other[key], f"{place}/{key}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{place}/{i}")]
    if isinstance(one, float) and isinstance(other, float):
        return [] if abs(one - other) <= 1e-6 * max(abs(one), 1e-3) else [place]
    return [] if one == other else [place]


def main() -> None:
    torch.set_num_threads(1)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DKD_CACHE"] = folder
        for number, case in enumerate(CASES):
            found[case] = results(case, Path(folder) / str(number))
    record(found)


if __name__ == "__main__":
    sys.exit(main())
