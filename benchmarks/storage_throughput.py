"""Transfer rates beside ``aws s3 cp``, against the same embedded server in the same run.

    python benchmarks/storage_throughput.py [--json rates.json]

A checkpoint of 250 MB and a shard set of 2 GB are published and fetched as artifacts (hashed,
verified, manifest and all), and copied by the AWS command line for comparison; each transfer is a
process of its own, timed from start to end. Each round has a server of its own. Needs about 9 GB
of disk while it runs (TMPDIR).
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from dkd.storage.embedded import EmbeddedStore

MB = 1_000_000
# What is transferred: sizes of its files in bytes, and how many rounds.
SETS = {"checkpoint 250 MB": ([250 * MB], 9), "shards 2 GB": ([250 * MB] * 8, 3)}
TARGET_RATIO = 0.8
TARGET_MEMORY = 300.0  # MB over the process's base

PUBLISH = """
parts = {path.name: path for path in Path(folder).iterdir()}
artifacts.publish(uri, parts, kind="benchmark", metadata={})
"""
FETCH = "artifacts.fetch(uri, Path(folder))"
OURS = """
import resource, sys
from pathlib import Path
from dkd import storage
from dkd.storage import artifacts
uri, folder = sys.argv[1:]
storage.exists(uri)
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
base = peak()
{transfer}
print(peak() - base)
"""


@dataclass
class Row:
    """One transfer: rates in MB/s (medians), median of the runs' ratios, memory in MB."""

    what: str
    direction: str
    ours: float
    aws: float | None
    ratio: float | None
    memory: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    aws = shutil.which("aws")
    if aws is None:
        print("No program aws on PATH: no comparison with aws s3 cp.", file=sys.stderr)
    rows = []
    for what, (sizes, rounds) in SETS.items():
        with tempfile.TemporaryDirectory() as scratch:
            rows += measure(what, sizes, rounds, Path(scratch), aws)
    print("| transfer | direction | dkd MB/s | aws s3 cp MB/s | ratio | memory over base, MB |")
    print("|---|---|---:|---:|---:|---:|")
    for row in rows:
        compared = f"{row.aws:.0f} | {row.ratio:.2f}" if row.aws and row.ratio else "- | -"
        print(f"| {row.what} | {row.direction} | {row.ours:.0f} | {compared} | {row.memory:.0f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    slow = [row for row in rows if row.ratio is not None and row.ratio < TARGET_RATIO]
    large = [row for row in rows if row.memory > TARGET_MEMORY]
    sys.exit(bool(slow or large))


def measure(what: str, sizes: list[int], rounds: int, scratch: Path, aws: str | None) -> list[Row]:
    """Transfer files of these sizes both ways, ours and the AWS command line's in turn."""
    source, target = scratch / "source", scratch / "target"
    source.mkdir()
    for number, size in enumerate(sizes):
        with (source / f"shard-{number}.tar").open("wb") as file:
            for _ in range(size // MB):
                file.write(os.urandom(MB))
    seconds: dict[tuple[str, str], list[float]] = {}
    memory = {"up": 0.0, "down": 0.0}
    for number in range(rounds):
        with EmbeddedStore(scratch / "s3") as store:
            environment = os.environ | store.environment()
            for direction in memory:
                commands = {"ours": _ours(direction, f"s3://{store.bucket}/ours", source, target)}
                if aws:
                    commands["aws"] = _aws(
                        aws, direction, f"s3://{store.bucket}/aws", source, target
                    )
                for who in list(commands)[:: 1 if number % 2 else -1]:
                    os.sync()  # what the one wrote is no burden for the other
                    began = time.perf_counter()
                    done = subprocess.run(
                        commands[who], env=environment, capture_output=True, text=True, check=True
                    )
                    seconds.setdefault((who, direction), []).append(time.perf_counter() - began)
                    if who == "ours":
                        memory[direction] = max(memory[direction], int(done.stdout) / MB)
                    if direction == "down":
                        _compare(source, target)
                        shutil.rmtree(target)
        shutil.rmtree(scratch / "s3")
    total = sum(sizes) / MB
    rows = []
    for direction in memory:
        ours, theirs = seconds["ours", direction], seconds.get(("aws", direction), [])
        ratios = [their / our for our, their in zip(ours, theirs, strict=False)]
        rows.append(
            Row(
                what,
                direction,
                total / statistics.median(ours),
                total / statistics.median(theirs) if theirs else None,
                statistics.median(ratios) if ratios else None,
                memory[direction],
            )
        )
    return rows


def _ours(direction: str, uri: str, source: Path, target: Path) -> list[str]:
    up = direction == "up"
    code = OURS.format(transfer=PUBLISH if up else FETCH)
    return [sys.executable, "-c", code, uri, str(source if up else target)]


def _aws(aws: str, direction: str, uri: str, source: Path, target: Path) -> list[str]:
    places = [str(source), uri] if direction == "up" else [uri, str(target)]
    return [aws, "s3", "cp", "--recursive", "--quiet", *places]


def _compare(source: Path, target: Path) -> None:
    for path in source.iterdir():
        if (target / path.name).stat().st_size != path.stat().st_size:
            raise RuntimeError(f"{path.name} did not arrive whole")


if __name__ == "__main__":
    main()
