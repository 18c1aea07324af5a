"""A step is trained once, whoever asks, and whoever dies."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import step_runs
from waiting import wait_until

from dkd import storage
from dkd.steps import lease, stages
from dkd.steps.step import Step
from dkd.storage import artifacts


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"BEAT": 0.1, "LOOK": 0.02}.items():
        monkeypatch.setattr(lease, name, seconds)


@pytest.fixture
def soon_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "STALE", 2.5)


def never() -> bool:
    return False


def silent(_line: str) -> None:
    """Nobody listens."""


def found(uri: str, name: str) -> list[str]:
    return [each.uri for each in storage.list_objects(uri + "/") if each.uri.endswith(name)]


def left_by_another_machine(uri: str, name: str = lease.HOLDER, run: str = "other") -> str:
    """What a process that nobody here can look at wrote last."""
    document = {"run": run, "machine": "elsewhere", "process": 1, "started": 0.0}
    place = storage.join(uri, "000001", name)
    storage.write_bytes(place, json.dumps(document).encode())
    return place


def test_one_holds_it_at_a_time_and_nothing_is_left(root: str) -> None:
    uri, inside, most = storage.join(root, "leases", "k"), [], []
    errors: list[BaseException] = []

    def ask(number: int) -> None:
        try:
            with lease.held(uri, f"run-{number}", never, silent):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.05)
                inside.remove(number)
        except BaseException as error:
            errors.append(error)

    askers = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for each in askers:
        each.start()
    for each in askers:
        each.join()
    assert not errors
    assert most == [1] * 4
    assert not found(uri, "")


def test_who_waits_says_for_whom_and_how_far_that_is(tmp_path: Path) -> None:
    uri, said = str(tmp_path / "leases/k"), list[str]()
    with lease.held(uri, "hers", never, silent) as place:
        progress = {"iteration": 1200, "of": 3900, **lease.process()}
        storage.write_bytes(storage.join(place, lease.PROGRESS), json.dumps(progress).encode())
        with lease.held(uri, "mine", lambda: bool(said), said.append) as none:
            assert none == ""
    assert said == ["waiting for run hers, which trains this step, iteration 1,200 of 3,900"]


def test_a_holder_that_was_killed_here_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "STALE", 1000)
    uri = str(tmp_path / "leases/k")
    program = (
        "import os, signal, sys\nfrom dkd.steps import lease\n"
        "with lease.held(sys.argv[1], 'hers', bool, print):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program, uri], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert found(uri, lease.HOLDER)
    with lease.held(uri, "mine", never, silent) as place:
        assert place.endswith("/000002")
    assert not found(uri, "")


@pytest.mark.usefixtures("soon_stale")
def test_one_that_is_silent_is_taken_over_by_one_and_its_clock_is_not_asked(
    tmp_path: Path,
) -> None:
    uri = str(tmp_path / "leases/k")
    place = Path(left_by_another_machine(uri))
    os.utime(place, (time.time() + 600,) * 2)  # ten minutes ahead of here
    said, started = list[str](), time.monotonic()
    with lease.held(uri, "mine", never, said.append):
        assert time.monotonic() - started > lease.STALE
    assert said == ["waiting for run other, which trains this step"]


@pytest.mark.usefixtures("soon_stale")
@pytest.mark.parametrize(("run", "waits"), [("other", False), ("mine", True)])
def test_a_job_that_outlives_its_launcher_is_adopted_by_its_own_run_alone(
    tmp_path: Path, run: str, waits: bool
) -> None:
    """The holder is silent; its job's first rank is not."""
    uri = str(tmp_path / "leases/k")
    left_by_another_machine(uri)
    progress = {"machine": "elsewhere", "process": 1, "started": 0.0, "iteration": 3, "of": 9}
    started = time.monotonic()
    with lease.beating(storage.join(uri, "000001", lease.PROGRESS), lambda: progress):
        end = started + 1.5 * lease.STALE
        with lease.held(uri, run, lambda: time.monotonic() > end, silent) as place:
            assert bool(place) != waits


# ---- the real thing: runs at once, each in a process of its own, with jobs of torchrun

RUN = """
import sys
from pathlib import Path
from step_runs import Run, scenario
from dkd.steps import lease, stages

lease.LOOK = 0.1
values = {"training.epochs.first": 3, "training.save_interval": 0.1}
run = Run(Path(sys.argv[1]), scenario(**values))
for step in (0, 1):
    made = stages.ensure(run.spec(step), sys.argv[2], say=lambda line: print(line, flush=True))
    run.teacher, run.memory = made["train"].uri, made["memory"].uri
print("ended")
"""


def test_five_runs_at_once_train_each_step_once_whoever_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    alone = step_runs.Run(
        tmp_path / "alone",
        step_runs.scenario(**{"training.epochs.first": 3, "training.save_interval": 0.1}),
    )
    expected = [alone.step(0).digest, alone.step(1).digest]

    logs = [tmp_path / f"run-{number}.log" for number in range(5)]
    runs = []
    for number, log in enumerate(logs):
        words = [sys.executable, "-c", RUN, str(root), f"run-{number}"]
        with log.open("w") as file:
            place = {"cwd": Path(__file__).parents[1], "stdout": file, "stderr": file}
            runs.append(subprocess.Popen(words, **place))  # type: ignore[call-overload]
    try:
        wait_until(lambda: list(root.glob("saves/*/*/manifest.json")), 240)
        (holder,) = [json.loads(each.read_text()) for each in root.glob("leases/*/*/holder.json")]
        number = int(holder["run"].removeprefix("run-"))
        runs[number].kill()
        waiter = (number + 1) % 5
        wait_until(lambda: "waiting for run" in logs[waiter].read_text())
        runs[waiter].kill()
        for each in runs:
            each.wait(240)
    finally:
        for each in runs:
            each.kill()
    ended = [log.read_text() for index, log in enumerate(logs) if index not in (number, waiter)]
    assert all(text.endswith("ended\n") for text in ended), ended
    trained = Counter(re.findall(r"step (\d) train: [\d.]+ s", "".join(ended)))
    assert trained == {"0": 1, "1": 1}
    keys = {path.parent.name for path in root.glob("checkpoints/*/manifest.json")}
    assert {artifacts.load(str(root / "checkpoints" / key)).digest for key in keys} == {*expected}
    for folder in ("leases", "saves"):
        assert not [path for path in root.glob(f"{folder}/**/*") if path.is_file()]


def test_a_launcher_that_died_after_the_checkpoint_was_published_starts_no_other_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left to do is a job of the same name: where the first one still runs, it is that."""
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    run = step_runs.Run(tmp_path / "root", step_runs.scenario(**{"training.epochs.first": 1}))
    asked = []

    class Jobs:
        def run(self, job: stages.Job) -> None:
            asked.append(job)
            worker = run.job(0)
            for stage in worker.step.stages:
                worker.perform(stage)
                if len(asked) == 1:
                    raise KeyboardInterrupt

    monkeypatch.setattr(stages, "launcher", lambda _launch: Jobs())
    with pytest.raises(KeyboardInterrupt):
        stages.ensure(run.spec(0), "mine")
    made = stages.ensure(run.spec(0), "mine")
    assert made.keys() == {"train", "evaluate", "memory"}
    assert [job.name for job in asked] == [asked[0].name] * 2
    wanted = [job.arguments[job.arguments.index("--stages") + 1] for job in asked]
    assert wanted == ["train,evaluate,memory", "evaluate,memory"]
    assert asked[1].result == stages.result_uri(Step.open(run.spec(0)), "evaluate")
