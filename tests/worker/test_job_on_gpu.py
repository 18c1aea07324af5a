"""What only a GPU can show. Skipped, saying so, where there is none."""

import subprocess
import sys
from pathlib import Path

import pytest
import step_runs
import torch

from dkd.storage import artifacts
from dkd.training.ranks import Ranks
from dkd.worker import doctor
from dkd.worker.job import StepJob

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

TWO_RANKS = """
import os, sys
import torch, torch.distributed as dist
sys.path[:0] = [{root!r}]
from benchmarks.cases import CASES, Size, batch, trainer
from dkd.training.ranks import Ranks

dist.init_process_group("gloo")
rank, control = dist.get_rank(), dist.new_group(backend="gloo")
ranks = Ranks(rank, 2, 0, torch.device("cuda", 0), control)
case, size = CASES["voc"], Size("resnet18", 64, 8, 32)
data = batch(case, size, 4, ranks.device)
data["image"] = data["image"] * (1 + rank)
found = []
for recorded in (False, True):
    ours = trainer(case, size, {{"recorded": recorded}}, ranks=ranks, lr=1e-4)
    losses = torch.stack([ours.train_step(data)["total"] for _ in range(4)])
    assert losses.unique().numel() == 4, "nothing is learned"
    learned = [p for p in ours.student.parameters() if p.grad is not None]
    found.append((losses, *(torch.cat([x.flatten() for x in of]) for of in (
        [p.grad for p in learned], [p.detach() for p in learned]))))
for one, other in zip(*found, strict=True):
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(one.abs().max()))
for sums in (each.cpu() for each in found[1][1:]):  # gradients and weights
    others = [torch.empty_like(sums) for _ in range(2)]
    dist.all_gather(others, sums)
    assert torch.equal(*others), "the ranks' differ"
dist.destroy_process_group()
"""


def test_recorded_passes_train_alike_under_ddp(tmp_path: Path) -> None:
    """Two ranks share the GPU, so that they talk by gloo."""
    script = tmp_path / "two_ranks.py"
    script.write_text(TWO_RANKS.format(root=str(Path(__file__).parents[2])))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def test_what_lies_in_memory_does_not_matter() -> None:
    """cuDNN is given the result's memory, uninitialised, as a summand of weight 0."""
    x, weight = (
        torch.randn(*shape, device="cuda", dtype=torch.bfloat16).to(
            memory_format=torch.channels_last
        )
        for shape in ((4, 64, 32, 32), (64, 64, 1, 1))
    )
    bias = torch.zeros(64, device="cuda", dtype=torch.bfloat16)
    torch.cuda.empty_cache()
    poison = torch.full_like(x, float("nan"))
    del poison
    y = torch.cudnn_convolution_relu(x, weight, bias, (1, 1), (0, 0), (1, 1), 1)
    assert y.isfinite().all()


class OnGpu(step_runs.Run):
    def job(self, step: int) -> StepJob:
        job = StepJob(self.spec(step), "test", Ranks(0, 1, 0, torch.device("cuda", 0), None))
        job.say = self.said.append
        return job


def test_a_run_from_the_first_step_to_the_last(tmp_path: Path) -> None:
    run = OnGpu(
        tmp_path, step_runs.scenario(**{"network.backbone": "resnet18", "network.weights": "none"})
    )
    for number in range(3):
        run.step(number)
        assert artifacts.find(run.evaluation) is not None
    assert sum("(cuda)" in line for line in run.said) == 3


def test_doctor_finds_the_gpu_well() -> None:
    found = {finding.name: finding for finding in doctor.examine()}
    assert found["GPUs"].state == "well"
    assert found["NCCL"].state == "well"
    assert found["Triton"].state == "well", found["Triton"].text
