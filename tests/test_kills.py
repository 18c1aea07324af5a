"""A real run that is killed four times, each time another part of it: nothing lost, nothing left.

The whole harness is ``benchmarks/kills.py``; ``docs/storage.md`` has the table of a long series.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = Path(__file__).parents[1] / "benchmarks" / "kills.py"


@pytest.mark.timeout(900)
def test_a_run_survives_what_is_killed(tmp_path: Path) -> None:
    record = tmp_path / "kills.jsonl"
    done = subprocess.run(
        [
            *(sys.executable, str(KILLS), "--kills", "4", "--steps", "1", "--seed", "10"),
            *("--work", str(tmp_path / "w"), "--record", str(record)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    kills = [json.loads(line) for line in record.read_text().splitlines()]
    assert {(kill["victim"], kill["signal"]) for kill in kills} == {
        ("store", "KILL"),
        ("rank", "KILL"),
        ("run", "KILL"),
        ("torchrun", "TERM"),
    }
    # How many seconds were lost is the series' matter: no test goes by the clock.
    problems = [p for kill in kills for p in kill["problems"] if not p.startswith("lost ")]
    assert not problems, done.stdout + done.stderr
