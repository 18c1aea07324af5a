"""Where a run's time goes outside training, and how long light commands take.

    python -m benchmarks --only whole_run

A short run of the demonstration (three steps, one rank, exemplars) is timed line by line; a
checkpoint of the published size is put into the embedded S3 store and fetched. From these, what
VOC 15-1 at its published length spends outside training follows for a GPU of a given speed, by
:func:`outside`, whose assumptions are its arguments.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rows import CPU, GPU, Row
from dkd.scenario import catalogue
from dkd.storage import artifacts, join
from dkd.storage.embedded import EmbeddedStore

GROUP = "whole run"
# The command itself: ``python -m dkd`` would take this checkout's folders for packages.
DKD = str(Path(sys.executable).parent / "dkd")
SHORT = (
    "data.pictograms.train=120",
    "data.pictograms.validation=24",
    "training.epochs.first=8",
    "training.epochs.later=8",
    "task=[[cat, fish, bird], [apple, tree], [plane]]",
    "launch.processes_per_node=1",  # as on the one GPU that it is extrapolated to
)
CHECKPOINT = 235_000_000  # bytes, ResNet-101 with ASPP and heads
EPOCHS, BATCH, MEMORY = 60, 32, 100
LIMIT = 3.0  # percent
# Images per second at a later step, and scored: of a GPU of the years of the paper (scored at half
# the FLOP/s: TF32 has half the rate of bf16); and of one H200 beside 16 cores, as measured.
RATES = {"a GPU of 100 images/s": (100.0, 199.0), "one H200, 627 images/s": (627.0, 267.0)}
# GFLOP of an image at step 0 and at a later step.
FIRST, LATER = 406, 542
# Seconds for the context, NCCL and the first kernels: 3.6 were seen until a step was recorded and a
# kernel of Triton's compiled.
CUDA_START = 4.0


@dataclass(frozen=True)
class Line:
    """A line of a run's output and when it came, in seconds since the start."""

    at: float
    text: str


def command_seconds(arguments: Sequence[str], repeats: int) -> float:
    """Median time of a command by the clock, after a first one that fills caches."""
    times = []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        subprocess.run([DKD, *arguments], check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def short_run(workspace: Path) -> list[Line]:
    """Runs the demonstration's DKD-M on little data."""
    settings = [argument for value in SHORT for argument in ("--set", value)]
    command = ["run", "demo", *settings, "--variant", "DKD-M", "--workspace", str(workspace)]
    started = time.perf_counter()
    process = subprocess.Popen(
        [DKD, *command],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = [Line(time.perf_counter() - started, text.rstrip()) for text in process.stdout]
    assert process.wait() == 0, "\n".join(line.text for line in lines[-15:])
    return [*lines, Line(time.perf_counter() - started, "end")]


def phases(lines: Sequence[Line]) -> dict[str, float]:
    """Seconds by phase, over all steps; ``start`` is what is before a step's first iteration.

    What a phase's line ends is that phase's time.
    """
    ends = (
        ("start", r"step \d+ \(.*\): \d+ images, "),
        ("training", r"  epoch (\d+)/\1:"),
        ("publish", r"step \d+ train: [\d.]+ s"),
        ("evaluate", r"step \d+ evaluate: [\d.]+ s"),
        ("memory", r"step \d+ memory: [\d.]+ s"),
        ("end", "end"),
    )
    seconds = dict.fromkeys((name for name, _ in ends), 0.0)
    last = 0.0
    for line in lines:
        for name, pattern in ends:
            if re.match(pattern, line.text):
                seconds[name] += line.at - last
                last = line.at
                break
    return seconds


def transfers(scratch: Path, size: int) -> tuple[float, float]:
    """Seconds to publish a checkpoint of so many bytes to the embedded store, and to fetch it."""
    file = scratch / "model.safetensors"
    file.write_bytes(os.urandom(size))
    with EmbeddedStore(scratch / "s3") as store:
        before = dict(os.environ)
        os.environ.update(store.environment())
        try:
            uri = join(f"s3://{store.bucket}", "checkpoint")
            started = time.perf_counter()
            artifacts.publish(uri, {file.name: file}, kind="benchmark", metadata={})
            published = time.perf_counter()
            artifacts.fetch(uri, scratch / "fetched")
            return published - started, time.perf_counter() - published
        finally:
            os.environ.clear()
            os.environ.update(before)


def outside(
    rate: float, scored: float, start: float, publish: float, fetch: float
) -> tuple[float, float]:
    """Seconds of VOC 15-1 with a memory of 100 outside and inside training, on one GPU.

    Args:
        rate: images per second trained at a later step; step 0 goes at the same FLOP/s.
        scored: images per second scored.
        start: seconds from a step's start to its first iteration, on a CPU.
        publish: of a checkpoint.
        fetch: of a checkpoint: the teacher's, and the step's own to be scored.
    """
    counted = catalogue.counts("voc-15-1")
    assert counted is not None
    trained = [
        EPOCHS * BATCH * ((n + MEMORY * (k > 0)) // BATCH) for k, n in enumerate(counted.train)
    ]
    inside = (trained[0] * FIRST + sum(trained[1:]) * LATER) / LATER / rate
    # Candidates for the memory are looked at from the second model on.
    looked_at = sum(counted.test) + sum(n + MEMORY for n in counted.train[1:])
    steps = len(counted.train)
    return steps * (start + CUDA_START + publish + 2 * fetch) + looked_at / scored, inside


def rows(quick: bool, on: Sequence[str] = (CPU, GPU)) -> list[Row]:
    if CPU not in on:
        return []
    found = [
        Row(
            GROUP,
            "dkd --help",
            "s",
            command_seconds(["--help"], 1 if quick else 7),
            limit=0.3,
            predicted=0.2,
        )
    ]
    if quick:
        return found
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        compiling = ["compile", "voc-15-1", "--data", "s3://bucket/voc"]
        compiled = command_seconds([*compiling, "-o", str(scratch / "pipeline.yaml")], 3)
        found.append(Row(GROUP, "dkd compile voc-15-1", "s", compiled, limit=2.0, predicted=1.5))
        lines = short_run(scratch / "workspace")
        seconds = phases(lines)
        publish, fetch = transfers(scratch, CHECKPOINT)
    steps = sum(re.match(r"step \d+ train: ", line.text) is not None for line in lines)
    assert steps == 3, "the run's lines are not understood"
    told = {
        "start": "start of processes, imports, inputs",
        "training": "training",
        "publish": "publishing the checkpoint",
        "evaluate": "evaluation",
        "memory": "choosing exemplars",
        "end": "the run's end, report",
    }
    found += [
        Row(GROUP, f"short run, {text}", "s/step", seconds[name] / steps, note="demo, one rank")
        for name, text in told.items()
    ]
    note = f"{CHECKPOINT / 1e6:.0f} MB, embedded S3 store"
    found.append(Row(GROUP, "publishing a checkpoint", "s", publish, predicted=3.0, note=note))
    found.append(Row(GROUP, "fetching a checkpoint", "s", fetch, predicted=1.0, note=note))
    for name, rates in RATES.items():
        beside, inside = outside(*rates, seconds["start"] / steps, publish, fetch)
        share = 100 * beside / (beside + inside)
        slow = name.startswith("a GPU")
        found.append(
            Row(
                GROUP,
                f"VOC 15-1, six steps, outside training, {name}",
                "% of the run",
                share,
                limit=LIMIT,
                predicted=2.0 if slow else 9.9,
                note=f"extrapolated: {beside:.0f} s of {beside + inside:,.0f} s",
            )
        )
    return found
