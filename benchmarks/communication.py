"""What ranks send each other at every iteration, and whether it hides behind the backward pass.

    python -m benchmarks --only communication

Two gloo ranks on this machine's CPU run the real training loop. Bytes are those of the tensors
that are summed, by kind; a ring sends 2 (W - 1) / W times as many per rank of W. The overlap is
read off a trace of torch.profiler: the share of the time in which gradients are summed that lies
within the backward pass. :func:`efficiency` is a model on paper of 1 to 64 nodes.
"""

import json
import math
import os
import socket
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.profiler import ProfilerActivity, profile

from benchmarks.cases import CASES, Size, batch, models, trainer
from benchmarks.rows import CPU, GPU, Row
from dkd.training.loop import Trainer
from dkd.training.ranks import ranks

GROUP = "communication"
CASE = CASES["voc"]
KINDS = {
    "gradients": "gradients",
    "normalisation": "statistics of batch normalisation",
    "average": "counts for the losses' means",
    "any_of": "flags (save, stop)",
}
PREDICTED_OVERLAP = 60.0


# ---- measured


def measure(number: int, size: Size, traced: bool) -> dict[str, Any]:
    """One rank's part: bytes by kind of an iteration, and what overlaps."""
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*deprecated")
    torch.set_num_threads(1)
    with ranks() as place:
        ours = trainer(CASE, size, {}, ranks=place, number=number)
        data = batch(CASE, size, size.batch // place.world_size, place.device, step=number)
        for _ in range(2):  # DDP chooses its buckets anew after the first
            ours.train_step(data)
        shares = [overlap(ours, data) for _ in range(3)] if traced else []
        sent = count(ours, data)
        return {"sent": sent, "overlap": max(shares, default=None)}


def count(ours: Trainer, data: dict[str, torch.Tensor]) -> dict[str, int]:
    """Bytes summed over the ranks by kind, of one iteration."""
    sent: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
    all_reduce = dist.all_reduce

    def counted(tensor: torch.Tensor, *arguments: Any, **named: Any) -> Any:
        caller = sys._getframe(1)
        kind = caller.f_code.co_name
        if Path(caller.f_code.co_filename).stem == "normalisation":
            kind = "normalisation"
        sent[kind] += tensor.numel() * tensor.element_size()
        return all_reduce(tensor, *arguments, **named)

    def hook(_state: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        buffer = bucket.buffer()
        sent["gradients"] += buffer.numel() * buffer.element_size()
        work = all_reduce(buffer.div_(dist.get_world_size()), async_op=True)
        return work.get_future().then(lambda future: future.value()[0])

    ours.model.register_comm_hook(None, hook)
    dist.all_reduce = counted
    try:
        ours.train_step(data)
        ours.ranks.any_of(False, False)  # as the saver does after every iteration
    finally:
        dist.all_reduce = all_reduce
    return dict(sent)


def overlap(ours: Trainer, data: dict[str, torch.Tensor]) -> float:
    """Percent of the gradients' communication that lies within the backward pass."""
    with profile(activities=[ProfilerActivity.CPU]) as traced:
        ours.train_step(data)
    events = [(e.name, e.time_range.start, e.time_range.end) for e in traced.events()]
    backward = [(s, e) for name, s, e in events if name.startswith("autograd::engine")]
    start, end = min(s for s, _ in backward), max(e for _, e in backward)
    sums = [(s, e) for name, s, e in events if name == "gloo:all_reduce" and e > start]
    assert sums, "no communication in the trace"
    within = sum(max(0.0, min(e, end) - max(s, start)) for s, e in sums)
    return 100 * within / sum(e - s for s, e in sums)


def on_two_ranks(number: int, size: Size, traced: bool) -> dict[str, Any]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    job = json.dumps([number, vars(size), traced])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.communication", job],
            env={**os.environ, **common, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in "01"
    ]
    outputs = [process.communicate()[0] for process in started]
    assert not any(process.returncode for process in started), "a rank failed"
    return json.loads(outputs[0].splitlines()[-1])


# ---- on paper


def efficiency(nodes: int, each: int, bandwidth: float) -> float:
    """Share of the time that nodes of 8 GPUs compute at a later step, 0..1.

    Assumes: 542 GFLOP an image at 39% of 790 TFLOP/s, half of it the backward pass; gradients
    in float32 summed by a ring over the nodes after one within each (NVLink, 300 GB/s); 25 MB
    buckets, the last of which nothing hides; 30 microseconds for each bucket and ring step, as
    far as these do not hide too; no stragglers.

    Args:
        nodes: machines.
        each: images of a GPU and iteration.
        bandwidth: of a node's network, bytes/s each way.
    """
    parameters = gradient_bytes(later=True)
    compute = each * 542e9 / (0.39 * 790e12)
    within = 2 * 7 / 8 * parameters / 300e9
    between = 2 * (nodes - 1) / nodes * parameters / bandwidth
    buckets = math.ceil(parameters / 25e6)
    latency = buckets * (2 * (nodes - 1) + 14) * 30e-6
    communicated = within + between + latency
    exposed = max(communicated - compute / 2, communicated / buckets)
    return compute / (compute + exposed)


def gradient_bytes(later: bool) -> int:
    """Of the published network's gradients, in float32, at VOC 15-1."""
    with torch.device("meta"):
        teacher, student = models(CASE, Size("resnet101", 512, 1))
    model = student if later else teacher
    return sum(4 * p.numel() for p in model.parameters() if p.requires_grad)


def rows(quick: bool, on: Sequence[str] = (CPU, GPU)) -> list[Row]:
    if CPU not in on:
        return []
    size = Size("demo", 32, 4, 16) if quick else Size("resnet18", 192, 4)
    found = []
    for number, name in ((0, "step 0"), (1, "a later step")):
        # At step 0 the statistics are summed too, which the backward pass has to wait for; the
        # gradients go the same way at both.
        result = on_two_ranks(number, size, traced=number == 1)
        with torch.device("meta"):
            teacher, student = models(CASE, size)
        learned = [p for p in (student if number else teacher).parameters() if p.requires_grad]
        assert result["sent"]["gradients"] == 4 * sum(p.numel() for p in learned)
        for kind, told in KINDS.items():
            frozen = number == 1 and kind == "normalisation"
            found.append(
                Row(
                    GROUP,
                    f"{name}, {told}",
                    "kB/iteration and rank",
                    result["sent"][kind] / 1e3,
                    limit=0.0 if frozen else None,
                    predicted=0.0 if frozen else None,
                    note=f"{size.backbone}, two gloo ranks",
                )
            )
    found.append(
        Row(
            GROUP,
            "a later step, summing of gradients within the backward pass",
            "%",
            result["overlap"],
            better="more",
            predicted=PREDICTED_OVERLAP,
            note=f"{size.told()}, two gloo ranks, best of 3 traces",
        )
    )
    found += [
        Row(
            GROUP,
            f"resnet101, {name}, gradients",
            "MB/iteration and rank",
            gradient_bytes(later) / 1e6,
            note="counted; the teacher sends nothing",
        )
        for later, name in ((False, "step 0"), (True, "a later step"))
    ]
    return found + [
        Row(
            GROUP,
            f"model: {nodes} nodes of 8 GPUs, {each} images each",
            "% computing",
            device=GPU,
            predicted=100 * efficiency(nodes, each, 25e9),
            better="more",
            note="on paper, 200 Gbit/s a node",
        )
        for each in (4, 32)
        for nodes in (1, 2, 8, 64)
    ]


if __name__ == "__main__":
    number_, size_, traced_ = json.loads(sys.argv[1])
    print(json.dumps(measure(number_, Size(**size_), traced_)))
