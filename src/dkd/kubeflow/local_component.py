"""A component under KFP's local runner: a fork of the process that runs its pipeline.

That one has imported what components need, which takes longer than most of them do their work.
The component is a process all the same, with variables, threads, output and an exit status of its
own, and does what it does in a pod: KFP's executor runs the source of its function.
"""

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path

from dkd.kubeflow import internals
from dkd.launching.local import ended
from dkd.storage.client import load_descriptions

NEEDED = (
    "kfp.dsl.executor_main",
    "dkd.components.learning",
    "dkd.components.preparation",
    "dkd.models.adding",
    "dkd.pipelines.extension",
    "dkd.pipelines.incremental",
    "dkd.report.page",
    "dkd.report.stored_cards",
    "dkd.storage.s3",
)
"""Modules that components import, and whatever these do."""


def prepare() -> None:
    """Has this process run components as its forks from now on. It must have no other thread."""
    for name in NEEDED:
        import_module(name)
    load_descriptions()
    internals.run_components_with(run)


def running() -> list[int]:
    """Numbers of the processes of components that run."""
    return [child.pid for child in multiprocessing.active_children() if child.pid]


def run(source: str, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs a component to its end and prints what it does.

    Args:
        source: of its function.
        arguments: of KFP's executor.
        environment: variables beside those of this process.

    Returns:
        Its exit status; minus the signal's number if it was killed by one.
    """
    reading, writing = os.pipe()
    child: BaseProcess = multiprocessing.get_context("fork").Process(
        target=_be, name="component", args=(source, arguments, environment, writing)
    )
    child.start()
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as output:
        for line in output:
            print(line, end="")
    child.join()
    assert child.exitcode is not None, "it has ended"
    if child.exitcode < 0:
        print(f"dkd: a component {ended(child.exitcode)}")
    print("\n")
    return child.exitcode


def _be(source: str, arguments: Sequence[str], environment: Mapping[str, str], output: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)
    os.environ.update(environment)
    program = Path(tempfile.mkdtemp()) / "component.py"
    program.write_text(source, encoding="utf-8")
    internals.execute(program, arguments)
