"""One format for every figure, and how it is measured on a machine that does other work too."""

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

GPU = "GPU"
CPU = "CPU"


@dataclass(frozen=True)
class Row:
    """One figure beside its baseline.

    Attributes:
        group: the part of the work, e.g. ``loading``.
        what: what was measured.
        device: where, ``CPU`` or ``GPU``.
        unit: of ours and baseline.
        ours: None where it was not measured.
        baseline: the plain way's, in the same run; None where there is none.
        predicted: what was expected before measuring, of the same kind as the limit.
        limit: what must be reached, if anything.
        limits: what the limit (and the prediction) is about: our value, or how many times
            better than the baseline we are.
        better: whether less or more of the unit is better.
        note: circumstances.
    """

    group: str
    what: str
    unit: str
    ours: float | None = None
    device: str = CPU
    baseline: float | None = None
    predicted: float | None = None
    limit: float | None = None
    limits: Literal["value", "ratio"] = "value"
    better: Literal["less", "more"] = "less"
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better ours is than the baseline."""
        if not self.ours or not self.baseline:
            return None
        return self.baseline / self.ours if self.better == "less" else self.ours / self.baseline

    @property
    def reached(self) -> bool | None:
        """Whether the limit holds; None without a limit or a measurement."""
        if self.limits == "ratio":
            return None if self.limit is None or self.ratio is None else self.ratio >= self.limit
        if self.limit is None or self.ours is None:
            return None
        return self.ours <= self.limit if self.better == "less" else self.ours >= self.limit

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio, "reached": self.reached}


def gpu_row(
    group: str, what: str, unit: str, measure: Callable[[], float] | None = None, **more: Any
) -> Row:
    """A figure of a GPU: measured where there is one, else a row that says so."""
    value = measure() if measure is not None and torch.cuda.is_available() else None
    return Row(group, what, unit, value, device=GPU, **more)


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| part | figure | on | ours | baseline | ratio | predicted | limit | |",
        "|---|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for r in rows:
        suffix = "x" if r.limits == "ratio" else ""
        least = (r.better == "more") or r.limits == "ratio"
        limit = "" if r.limit is None else f"{'>=' if least else '<='} {number(r.limit)}{suffix}"
        predicted = "" if r.predicted is None else f"{number(r.predicted)}{suffix}"
        ours = "not measured" if r.ours is None else f"{number(r.ours)} {r.unit}"
        verdict = {True: "reached", False: "MISSED", None: ""}[r.reached]
        lines.append(
            f"| {r.group} | {r.what} | {r.device} | {ours} | "
            f"{'' if r.baseline is None else number(r.baseline)} | "
            f"{'' if r.ratio is None else f'{r.ratio:.2f}'} | {predicted} | {limit} | "
            f"{'; '.join(part for part in (verdict, r.note) if part)} |"
        )
    return "\n".join(lines)


def number(value: float) -> str:
    """Three digits that count."""
    if value == 0 or 0.001 <= abs(value) < 1000:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1e}"


def write(path: Path, rows: Sequence[Row], about: Mapping[str, Any]) -> None:
    """The rows as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {**about, "rows": [row.document() for row in rows]}
    path.write_text(json.dumps(document, indent=1) + "\n")


def read(path: Path) -> list[Row]:
    """The rows of a JSON file."""
    documents = json.loads(path.read_text())["rows"]
    return [Row(**{k: v for k, v in d.items() if k not in ("ratio", "reached")}) for d in documents]


def with_measured(rows: Sequence[Row], elsewhere: Sequence[Row]) -> list[Row]:
    """Rows, with those of a GPU that another machine has measured instead of "not measured"."""
    measured = [row for row in elsewhere if row.device == GPU and row.ours is not None]
    names = {(row.group, row.what) for row in measured}
    kept = [row for row in rows if row.device == CPU or (row.group, row.what) not in names]
    groups = list(dict.fromkeys(row.group for row in [*kept, *measured]))
    return sorted([*kept, *measured], key=lambda row: groups.index(row.group))


def cpu_seconds(work: Callable[[], object], repeats: int) -> float:
    """Least CPU time of one call, of this process with all its threads.

    Not the clock's time, as others may use the machine too.
    """
    times = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def in_turns(
    works: Mapping[str, Callable[[], object]],
    repeats: int,
    seconds: Callable[..., float],
    warm: bool = False,
) -> dict[str, float]:
    """Each work's median time, all of them in turns, so that a busy moment hits every one.

    Before, each is done once, unless it is ``warm`` already.
    """
    for work in () if warm else works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(seconds(work))
    return {name: statistics.median(found) for name, found in times.items()}


def wall_seconds(work: Callable[[], object]) -> float:
    """Time of one call by the clock; on a GPU, until the device is done."""
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def seconds_on(device: str) -> Callable[[Callable[[], object]], float]:
    """How to time on a device."""
    return wall_seconds if device == "cuda" else lambda work: cpu_seconds(work, 1)
