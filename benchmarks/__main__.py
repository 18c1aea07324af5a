"""Every figure of this project's speed, each beside its baseline in the same run.

    python -m benchmarks [--quick] [--only training_step,losses] [--on GPU] [--json FILE]

Each part runs in a process of its own, one after the other, on one thread if not said
otherwise: about ten minutes on two CPU cores. Figures of a GPU are measured where there is one.
``--quick`` takes the smallest sizes, in this process, in seconds: it shows that everything runs,
its figures mean nothing.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from benchmarks.rows import CPU, GPU, Row, read, table, with_measured, write

PARTS = (
    "loading",
    "training_step",
    "memory",
    "losses",
    "evaluation",
    "communication",
    "whole_run",
    "growth",
)


def about() -> dict[str, Any]:
    """The machine and the versions."""
    processor = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.split(":", 1)[1].strip()
            break
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": processor,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only show that everything runs")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    parser.add_argument("--on", choices=[CPU, GPU], help="only the figures of a CPU, or a GPU")
    parser.add_argument("--gpu-rows", type=Path, help="JSON of a run --on GPU on another machine")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"))
    parser.add_argument("--table", type=Path, help="write the table here too, as Markdown")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    parts = given.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {min(unknown)}; there are {', '.join(PARTS)}")
    on = (given.on,) if given.on else (CPU, GPU)
    started = about()
    rows: list[Row] = []
    for part in parts:
        began = time.monotonic()
        if given.quick or given.in_process:
            torch.set_num_threads(1)
            rows += import_module(f"benchmarks.{part}").rows(given.quick, on)
        else:
            rows += in_a_process(part, given.on)
        print(f"{part}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        # After every part: a GPU may be lent for minutes, and what was measured is not lost.
        write(given.json, rows, {**started, "load_at_the_end": os.getloadavg()[0]})
    if given.gpu_rows:
        rows = with_measured(rows, read(given.gpu_rows))
        write(given.json, rows, {**started, "load_at_the_end": os.getloadavg()[0]})
    if given.in_process:
        return
    machine = (
        f"{started['processor']}, {started['cores']} cores, torch {started['torch']}; "
        f"GPU: {started['gpu'] or 'none, not measured'}; {started['time']}, "
        f"load {started['load']:.1f} at the start"
    )
    print(f"{table(rows)}\n\n{machine}")
    if given.table:
        given.table.write_text(f"# Figures\n\n{machine}.\n\n{table(rows)}\n")
    missed = [row for row in rows if row.reached is False]
    if missed and not given.quick:
        sys.exit(f"{len(missed)} limits are missed")


def in_a_process(part: str, on: str | None) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "benchmarks", "--in-process", "--only", part]
        command += ["--on", on] if on else []
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*command, "--json", str(file)], check=True, env=environment)
        return read(file)


if __name__ == "__main__":
    main()
