"""Running scenarios on this machine: the pipeline under KFP's local runner.

Without an artifact root, an embedded S3 store runs for as long as the command does.
"""

import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from io import TextIOBase
from pathlib import Path
from typing import TextIO

from dkd import results, storage
from dkd.errors import UserError
from dkd.launching.runs import run_processes
from dkd.report import RunResult, table
from dkd.scenario import Scenario
from dkd.storage.embedded import EmbeddedStore


@dataclass(frozen=True)
class Planned:
    """One run of the pipeline: its name and scenario."""

    name: str
    scenario: Scenario


def plan(
    scenario: Scenario,
    variants: Sequence[str],
    all_variants: bool,
    seeds: Sequence[int],
    name: str | None,
) -> list[Planned]:
    """The runs that a command asks for: every variant with every seed.

    Args:
        scenario: to begin with.
        variants: names of its variants; the scenario itself if none is given.
        all_variants: take all of them.
        seeds: the scenario's own if none is given.
        name: prefix of the runs' names; the scenario's name by default.

    Raises:
        UserError: an unknown variant.
    """
    chosen = tuple(scenario.variants) if all_variants else tuple(variants)
    varied = [(v, scenario.variant(v)) for v in chosen] or [
        ("", scenario.override({"variants": {}}))
    ]
    runs = []
    for label, one in varied:
        for seed in seeds or (one.seed,):
            parts = [name or scenario.name, label, f"seed{seed}" if seeds else ""]
            slug = re.sub(r"[^a-z0-9.]+", "-", "-".join(p for p in parts if p).lower())
            runs.append(Planned(slug, one.override({"seed": seed})))
    return runs


def run(
    runs: Sequence[Planned],
    root: str | None,
    workspace: Path,
    report_file: Path,
    say: Callable[[str], None],
) -> list[RunResult]:
    """Runs pipelines one after the other and writes one report over all of them.

    Args:
        runs: from :func:`plan`.
        root: artifact root; an embedded store in the workspace if None.
        workspace: folder for store, cache and logs.
        report_file: where the HTML page goes.
        say: prints a line.

    Raises:
        UserError: a component failed; its own line.
    """
    _writable(workspace)
    finished = []
    with ExitStack() as stack:
        stack.enter_context(run_processes())
        os.environ.setdefault("DKD_CACHE", str((workspace / "cache").absolute()))
        if root is None:
            say("starting the embedded S3 store")
            store = stack.enter_context(EmbeddedStore(workspace / "s3"))
            os.environ.update(store.environment())
            root = f"s3://{store.bucket}"
            say(f"artifact root {root} at {store.endpoint}, kept in {workspace / 's3'}")
        for number, planned in enumerate(runs, start=1):
            say(f"\n=== run {number}/{len(runs)}: {planned.name}")
            _run_pipeline(planned, root, workspace)
            uri = storage.join(root, "runs", planned.name, results.RESULT)
            finished.append(results.load(uri))
    report_file.parent.mkdir(parents=True, exist_ok=True)
    report_file.write_text(results.page(finished), encoding="utf-8")
    say("\n" + table(finished))
    say(f"\nreport: {report_file}")
    return finished


def _run_pipeline(planned: Planned, root: str, workspace: Path) -> None:
    from kfp import local

    from dkd.pipelines.incremental import build

    folder = workspace / "runs" / planned.name
    folder.mkdir(parents=True, exist_ok=True)
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(folder / "kfp"),
        raise_on_error=True,
    )
    pipeline = build(planned.scenario)
    with (folder / "pipeline.log").open("w") as log:
        console = ComponentLines(sys.stdout, log)
        try:
            with redirect_stdout(console), warnings.catch_warnings():
                warnings.filterwarnings("ignore", module="kfp.local")  # what it leaves undone here
                pipeline(artifact_root=root, run_name=planned.name)
        except RuntimeError as error:
            told = console.last_error or str(error)
            raise UserError(f"{told} (whole log: {folder / 'pipeline.log'})") from None


class ComponentLines(TextIOBase):
    """Passes on what the components print; KFP's own talk goes to a log only.

    KFP's local runner (2.17) prints each executor's whole input as JSON and its own progress
    around the component's lines. All of it is kept in the log.

    Attributes:
        last_error: what a component said from a line on that began with ``dkd:``.
    """

    def __init__(self, console: TextIO, log: TextIO) -> None:
        self._console, self._log = console, log
        self._rest = ""
        self._in_component = self._in_json = False
        self._error: list[str] = []

    @property
    def last_error(self) -> str:
        return "\n".join(self._error).rstrip()

    def write(self, text: str) -> int:
        self._log.write(text)
        self._log.flush()
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._pass_on(line.rstrip())
        return len(text)

    def flush(self) -> None:
        self._console.flush()

    def _pass_on(self, line: str) -> None:
        if _KFP_LINE.match(line):
            self._in_component = line.endswith("Streamed logs:")
        if not self._in_component:
            return
        line = line.removeprefix("    ")  # the runner indents what components print
        if self._in_json:
            self._in_json = line != "}"
        elif line == "{":
            self._in_json = True
        elif line.startswith("dkd: "):
            self._error = [line.removeprefix("dkd: ")]
        elif self._error:
            self._error.append(line)
        elif line and not (line.startswith("[KFP Executor") or _KFP_LINE.match(line)):
            self._console.write(line + "\n")
            self._console.flush()


_KFP_LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{3} - ")


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}; use --workspace") from None
