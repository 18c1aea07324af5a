"""The program's number is raised when what it computes changes.

Where results changed on purpose: raise ``PROGRAM`` in ``dkd/steps/step.py``, then
``python tests/program_results.py``. Where they were not to change, they must not.
"""

import json
import re
from pathlib import Path

import program_results
import pytest

from dkd.steps import step

ROOT = Path(__file__).parents[2]
RECORD = json.loads(program_results.RECORD.read_text())


@pytest.mark.parametrize("case", program_results.CASES)
def test_results_are_those_of_the_number(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if program_results.version() != RECORD["torch"]:
        pytest.skip(f"recorded with PyTorch {RECORD['torch']}, the locked one")
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    found = program_results.results(case, tmp_path / "root")
    changed = program_results.differences(RECORD["results"][case], json.loads(json.dumps(found)))
    assert not changed, "results changed: raise PROGRAM in dkd/steps/step.py, or mend what did it"


def test_the_record_is_this_numbers_and_the_locked_torchs() -> None:
    locked = re.findall(r"(?m)^torch==(\S+)", (ROOT / "requirements/dev.txt").read_text())
    assert {RECORD["torch"]} == {version.split("+")[0] for version in locked}
    assert RECORD["program"] == step.PROGRAM
    assert RECORD["results"].keys() == program_results.CASES.keys()


def test_other_results_under_the_same_number_are_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "record.json"
    place.write_text(program_results.RECORD.read_text())
    monkeypatch.setattr(program_results, "RECORD", place)
    monkeypatch.setattr(program_results, "version", lambda: RECORD["torch"])
    other = json.loads(json.dumps(RECORD["results"]))
    other["dkd, corrected"][1]["norms"][0] *= 1 + 1e-5
    with pytest.raises(SystemExit, match="/dkd, corrected/1/norms/0: results changed; raise"):
        program_results.record(other)
    monkeypatch.setattr(step, "PROGRAM", step.PROGRAM + 1)
    program_results.record(other)
    assert json.loads(place.read_text())["program"] == step.PROGRAM


def test_rounding_is_no_change() -> None:
    assert not program_results.differences({"a": [1.0, 2]}, {"a": [1.0 + 1e-9, 2]})
    assert program_results.differences({"a": [1.0, 2]}, {"a": [1.0, 3]}) == ["/a/1"]
    assert program_results.differences({"a": [1.0]}, {"a": [1.0, 2.0]}) == ["/a"]
