"""The command itself: quick, light, and every error one line."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from dkd.cli import COMMANDS, main

HEAVY = ("torch", "torchvision", "kfp", "boto3", "numpy", "pydantic")


def imported_by(code: str) -> set[str]:
    """Which heavy modules a fresh Python has loaded after running the code."""
    script = f"import sys\n{code}\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_help_imports_nothing_heavy() -> None:
    code = "from dkd.cli import main\nmain(['--help'], standalone_mode=False)"
    assert imported_by(code) == set()


def test_what_compile_and_scenarios_need_holds_no_torch() -> None:
    code = (
        "import dkd.cli.compile, dkd.pipelines.incremental, dkd.cli.scenarios\n"
        "import dkd.scenario.catalogue\n"
    )
    assert not imported_by(code) & {"torch", "torchvision", "boto3"}


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_explains_itself(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Usage: main ")


def test_an_unknown_command_is_refused() -> None:
    result = CliRunner().invoke(main, ["fly"])
    assert result.exit_code == 2
    assert "No such command 'fly'" in result.output
