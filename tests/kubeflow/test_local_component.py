"""A component that KFP's local runner has run: a process of its own, and one that is warm."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent, indent

import pytest

PROGRAM = """
import os, sys
from pathlib import Path
from kfp import dsl, local
from dkd.kubeflow import local_component

local_component.prepare()
os.environ["GIVEN"] = "to all"

@dsl.component(install_kfp_package=False)
def it(word: str) -> str:
{body}

local.init(local.SubprocessRunner(use_venv=False), pipeline_root="kfp", raise_on_error=False)
print("process", os.getpid())
for word in ("one", "two"):
    print("answer", it(word=word).outputs.get("Output"))
threads = len(list(Path("/proc/self/task").iterdir()))
print("left", os.environ.get("LEFT"), local_component.running(), threads)
"""


def lines(folder: Path, body: str) -> list[str]:
    """What a process prints that has a component run twice, KFP's own lines left out."""
    program = folder / "program.py"
    program.write_text(PROGRAM.format(body=indent(dedent(body), "    ")))
    done = subprocess.run(
        [sys.executable, str(program)], cwd=folder, capture_output=True, text=True, check=True
    )
    assert "DeprecationWarning" not in done.stderr
    return done.stdout.splitlines()


def test_a_component_is_a_process_of_its_own_that_has_all_imported(tmp_path: Path) -> None:
    told = lines(
        tmp_path,
        """
        import os, sys
        print(word, os.getppid(), os.environ["GIVEN"], os.environ["_KFP_RUNTIME"])
        print("imported", "dkd.steps.stages" in sys.modules)
        print("in error", file=sys.stderr)
        os.environ["LEFT"] = "behind"
        return word * 2
        """,
    )
    process = next(line for line in told if line.startswith("process")).split()[1]
    own = [line.removeprefix("    ") for line in told if line.startswith("    ")]
    assert own.count(f"one {process} to all true") == own.count(f"two {process} to all true") == 1
    assert own.count("imported True") == own.count("in error") == 2
    assert "answer oneone" in told
    assert "answer twotwo" in told
    assert told[-1] == "left None [] 1"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("raise ValueError('of ' + word)", "ValueError: of one"),
        ("import os; print('last', word, flush=True); os.kill(os.getpid(), 9)", "last one"),
        ("print('last', word); raise SystemExit(2)", "last one"),
    ],
)
def test_one_that_fails_takes_nothing_with_it(tmp_path: Path, body: str, why: str) -> None:
    told = lines(tmp_path, body)
    assert f"    {why}" in told
    assert f"    {why.replace('one', 'two')}" in told
    assert told.count("answer None") == 2
    killed = "    dkd: a component was killed by SIGKILL (out of memory?)"
    assert told.count(killed) == (2 if "kill" in body else 0)
    assert told[-1] == "left None [] 1"
