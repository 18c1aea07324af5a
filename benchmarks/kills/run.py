"""The run that is killed: its scenario, its start, and what its log and its store say."""

import glob
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

from dkd import storage
from dkd.storage import artifacts
from dkd.storage.embedded import EmbeddedStore

MARK = "KILLS_CHAIN"
"""Variable of the environment that marks a chain's processes."""
INTERVAL = 1.0
"""Seconds between saves."""
RUN_SECONDS = 900.0
"""No start of the run may take longer; a busy machine is slow."""


# An epoch is one iteration, so that the log has every iteration; with 39 each is told.
TASK = "[[zero, one, two, three], [four, five]]"
SCENARIO = f"""\
name: kills
data: {{{{format: digits, pack: true, digits: {{{{train: 60, validation: 12, size: 32}}}}}}}}
task: {{task}}
method: dkd
network: {{{{backbone: demo, aspp_channels: 128}}}}
memory_size: 8
training:
  epochs: {{{{first: 39, later: 39}}}}
  batch_size: 40
  crop: 32
  lr: {{{{first: 0.01, later: 0.0001}}}}
  precision: fp32
  loader_workers: 1
  save_interval: {INTERVAL}
launch: {{{{processes_per_node: 2, threads: 1}}}}
"""


STARTED = re.compile(r"step (\d) \(.*iterations on \d ranks \(\w+\)(?:, from iteration (\d+))?")
SAVED = re.compile(r"  saved at iteration (\d+)")
ITERATION = re.compile(r"  epoch (\d+)/39: ")
FINISHED = re.compile(r"step (\d) train: ")
STAGE = re.compile(r"step \d (train|evaluate|memory): [\d.]+ s")


@dataclass
class Training:
    """How far a step's training came: when which iteration was told, and the last save told."""

    step: int
    first: int
    times: dict[int, float]
    saved: int = 0

    @property
    def reached(self) -> int:
        return max(self.times)

    @property
    def longest(self) -> float:
        """The longest time between two lines, in seconds."""
        times = sorted(self.times.values())
        return max((b - a for a, b in pairwise(times)), default=0.0)


@dataclass
class Attempt:
    """What one start of the run said, and when."""

    lines: list[tuple[float, str]] = field(default_factory=list)
    saves: dict[str, tuple[float, float]] = field(default_factory=dict)  # first and last seen

    def count(self, event: str) -> int:
        """How often an event has happened so far."""
        if event == "save":
            return len(self.saves)
        pattern = {"iteration": ITERATION, "stage": STAGE}.get(event)
        return sum(1 for _, line in self.lines if pattern is None or pattern.match(line))

    def look_for_saves(self, temporary: Path) -> None:
        """Notes the saves that are under way: their temporary folders."""
        # Path.glob raises when a folder goes while it looks.
        for found in glob.iglob(f"{temporary}/dkd-*/dkd-*/dkd-save-*"):  # noqa: PTH207
            name, now = Path(found).name, time.monotonic()
            self.saves[name] = (self.saves.get(name, (now,))[0], now)

    @property
    def longest_save(self) -> float:
        return max((last - first for first, last in self.saves.values()), default=0.0)

    @property
    def training(self) -> "Training | None":
        """The last training that it began, and how far that came."""
        found: Training | None = None
        for when, line in list(self.lines):
            if match := STARTED.match(line):
                first = int(match[2] or 0)
                found = Training(int(match[1]), first, {first: when})
            elif (match := ITERATION.match(line)) and found:
                found.times[int(match[1])] = when
            elif (match := SAVED.match(line)) and found:
                found.saved = int(match[1])
        return found


def start_run(folder: Path, temporary: Path, mark: str) -> "subprocess.Popen[str]":
    scenario = folder.parent / "kills.yaml"
    others = ("AWS_", "DKD_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(others)}
    return subprocess.Popen(
        [sys.executable, "-m", "dkd", "run", str(scenario), "--workspace", str(folder / "w")],
        cwd=folder,
        env={**environment, "TMPDIR": str(temporary), MARK: mark},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def follow_output(process: "subprocess.Popen[str]", attempt: Attempt) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        attempt.lines.append((time.monotonic(), line.rstrip("\n")))


def undisturbed(folder: Path) -> dict[int, str]:
    """Runs the scenario once without a kill; the digests of its weights."""
    (folder / "t").mkdir(parents=True)
    process = start_run(folder, folder / "t", "undisturbed")
    output, _ = process.communicate(timeout=RUN_SECONDS)
    if process.returncode != 0:
        raise SystemExit(f"the undisturbed run failed:\n{output}")
    with Opened(folder / "w/s3"):
        expected = digests(folder)
        if left := leftovers():
            raise SystemExit(f"the undisturbed run left {left}")
    shutil.rmtree(folder)
    return expected


class Opened:
    """The store of a run that is not running; the environment is as before afterwards."""

    def __init__(self, folder: Path) -> None:
        self._store = EmbeddedStore(folder)

    def __enter__(self) -> EmbeddedStore:
        self._before = dict(os.environ)
        store = self._store.__enter__()
        os.environ.update(store.environment())
        return store

    def __exit__(self, *_: object) -> None:
        os.environ.clear()
        os.environ.update(self._before)
        self._store.close()


def digests(folder: Path) -> dict[int, str]:
    """sha256 of every step's weights in the open store, by step."""
    found = {}
    for uri in places("checkpoints"):
        manifest = artifacts.load(uri)
        out = folder / "weights"
        artifacts.fetch(uri, out)
        step = json.loads((out / "checkpoint.json").read_text())["step"]
        found[step] = sha256((out / "model.safetensors").read_bytes()).hexdigest()
        assert found[step] == manifest.parts["model.safetensors"].sha256
        shutil.rmtree(out)
    return found


def places(folder: str) -> list[str]:
    """URIs of the folders of artifacts, whole or not."""
    objects = storage.list_objects(f"s3://dkd/{folder}")
    return sorted({"/".join(entry.uri.split("/")[:5]) for entry in objects})


def leftovers() -> list[str]:
    """Objects of the open store that belong to nothing."""
    found = [entry.uri for entry in storage.list_objects("s3://dkd/saves")]
    found += [f"upload of {leftover.uri}" for leftover in storage.unfinished("s3://dkd")]
    for folder in ("checkpoints", "evaluations", "memories", "datasets"):
        for uri in places(folder):
            manifest = artifacts.find(uri)
            used = {manifest.part_uri(name) for name in manifest.parts} if manifest else set()
            objects = {entry.uri for entry in storage.list_objects(uri)}
            beside = (artifacts.MANIFEST, "card.md", "card.html")  # a model's card is no part
            found += sorted(objects - used - {storage.join(uri, name) for name in beside})
    return found
