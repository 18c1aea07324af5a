"""A real run that is killed four times, each time another part of it: nothing lost, nothing left.

The whole harness is ``benchmarks/kills``; ``benchmarks/README.md`` has the
table of a long series.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.timeout(1800)
def test_a_run_survives_what_is_killed(tmp_path: Path) -> None:
    record = tmp_path / "kills.jsonl"
    with tempfile.TemporaryDirectory(prefix="k-") as work:  # short: names of sockets come behind it
        done = subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks.kills"),
                *("--kills", "4", "--steps", "1", "--seed", "10"),
                *("--work", work, "--record", str(record)),
            ],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert record.exists(), done.stdout + done.stderr
    kills = [json.loads(line) for line in record.read_text().splitlines()]
    killed = {(kill["victim"], kill["signal"]) for kill in kills}
    assert killed == {
        ("store", "KILL"),
        ("rank", "KILL"),
        ("run", "KILL"),
        ("torchrun", "TERM"),
    }, done.stdout + done.stderr
    # How many seconds were lost is the series' matter: no test goes by the clock.
    problems = [p for kill in kills for p in kill["problems"] if not p.startswith("lost ")]
    assert not problems, done.stdout + done.stderr
