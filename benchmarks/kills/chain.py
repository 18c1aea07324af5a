"""A run that is killed until it is finished, and what is looked at after each kill."""

import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
import uuid
from pathlib import Path

from benchmarks.kills.processes import command_line, marked, orphans, parent, working_in
from benchmarks.kills.record import Deck, Kill, Moment
from benchmarks.kills.run import (
    FINISHED,
    INTERVAL,
    MARK,
    RUN_SECONDS,
    STARTED,
    Attempt,
    Opened,
    Training,
    digests,
    follow_output,
    leftovers,
    start_run,
)

from dkd import storage
from dkd.storage import artifacts

LOG_SECONDS = 0.5
"""By how much a line of the log may be late; lines are all that times are taken from."""
GONE_SECONDS = 30.0
"""How long processes and files may take to disappear."""
MOST_KILLS = 15
"""Kills of a chain after which it may finish."""


class Chain:
    """A run in a workspace of its own that is killed until it is finished."""

    def __init__(self, seed: int, kinds: Deck, folder: Path) -> None:
        self.seed, self.kinds, self.folder = seed, kinds, folder
        self.random = random.Random(seed)
        self.mark = uuid.uuid4().hex
        self.temporary = folder / "t"  # short: sockets in it have long names
        self.temporary.mkdir(parents=True)
        self.kills: list[Kill] = []
        self._waiting: list[tuple[Kill, Training, Attempt]] = []

    def follow(self, wanted: int, expected: dict[int, str]) -> list[Kill]:
        """Kills the run up to ``wanted`` times, lets it finish, and looks at the result."""
        while len(self.kills) < min(wanted, MOST_KILLS):
            victim, name = self.kinds.draw()
            kill = Kill(self.seed, len(self.kills), victim, name, Moment.draw(self.random))
            finished = self._start(kill)
            if kill not in self.kills:
                self.kinds.put_back((victim, name))
            if finished:
                break
        for _ in range(3):
            if self._start(None):
                break
        else:
            self._blame("the run does not finish")
        self._examine_end(expected)
        return self.kills

    def _start(self, kill: Kill | None) -> bool:
        """Starts the run and may kill it; returns whether it finished."""
        attempt = Attempt()
        process = start_run(self.folder, self.temporary, self.mark)
        reader = threading.Thread(target=follow_output, args=(process, attempt), daemon=True)
        reader.start()
        try:
            done = kill is not None and self._strike(kill, process, attempt)
            end = time.monotonic() + RUN_SECONDS
            while process.poll() is None and time.monotonic() < end:
                attempt.look_for_saves(self.temporary)
                time.sleep(0.02)
            if process.poll() is None:
                self._blame("hung", kill)
        finally:
            left = self._wait_until_gone(process)
            reader.join(10)
        self._compare(attempt)
        if kill is not None and done:
            self.kills.append(kill)
            kill.status, kill.gone = process.returncode, left[0]
            kill.last = attempt.lines[-1][1][:300] if attempt.lines else ""
            kill.problems += left[1]
            if kill.victim == "store" and process.returncode != 0:
                kill.problems.append("the run did not outlive its server")
            if kill.victim != "store" and (training := attempt.training):
                self._note(kill, training, attempt)
            if process.returncode != 0 and self.random.random() < 0.3:
                self._examine_saves(kill)
        elif process.returncode != 0 or left[1]:
            self._blame(f"undisturbed start: status {process.returncode} {left[1]}")
        return process.returncode == 0

    def _strike(self, kill: Kill, process: subprocess.Popen[str], attempt: Attempt) -> bool:
        """Waits for the moment and the victim, and sends the signal."""
        assert kill.moment is not None
        until: float | None = None
        while process.poll() is None:
            attempt.look_for_saves(self.temporary)
            if until is None and attempt.count(kill.moment.event) >= kill.moment.number:
                until = time.monotonic() + kill.moment.delay
            if until is not None and time.monotonic() >= until:
                victim = self._find(kill.victim, process)
                if victim is not None:
                    kill.progress = attempt.lines[-1][1][:60] if attempt.lines else ""
                    number = getattr(signal, f"SIG{kill.signal}")
                    try:
                        if kill.signal == "INT":
                            os.killpg(victim, number)  # as the terminal does
                        else:
                            os.kill(victim, number)
                    except ProcessLookupError:
                        continue
                    return True
            time.sleep(0.005)
        return False

    def _find(self, victim: str, process: subprocess.Popen[str]) -> int | None:
        if victim == "run":
            return process.pid
        found = {p: command_line(p) for p in marked(MARK, self.mark)}
        pipelines = [p for p, words in found.items() if b"dkd.kubeflow.local_pipeline" in words]
        if victim == "rank":
            torchruns = [p for p, words in found.items() if b"dkd.launching.torchrun" in words]
            ranks = [p for p in found if parent(p) in torchruns and b"dkd.train" in found[p]]
            return self.random.choice(sorted(ranks)) if ranks else None
        for number, line in found.items():
            if victim == "store" and line[0].endswith(b"weed"):
                return number
            if victim == "torchrun" and b"dkd.launching.torchrun" in line:
                return number
            if victim == "component" and number in pipelines and parent(number) in pipelines:
                return number  # a fork of the process that runs the pipeline
        return None

    def _wait_until_gone(self, process: subprocess.Popen[str]) -> tuple[float, list[str]]:
        """Seconds until nothing is left, and what still is after :data:`GONE_SECONDS`."""
        if process.poll() is None:
            process.kill()
        process.wait()
        since = time.monotonic()
        left = self._left()
        while left and time.monotonic() < since + GONE_SECONDS:
            time.sleep(0.02)
            left = self._left()
        for each in [*marked(MARK, self.mark), *orphans()]:
            os.kill(each, signal.SIGKILL)
        shutil.rmtree(self.temporary)
        self.temporary.mkdir()
        return round(time.monotonic() - since, 2), left

    def _left(self) -> list[str]:
        processes = {*marked(MARK, self.mark), *working_in(self.folder), *orphans()}
        named = [b" ".join(command_line(p))[:80].decode(errors="replace") for p in processes]
        files = [name for _, *names in os.walk(self.temporary) for each in names for name in each]
        state = self.folder / "w/s3/server.json"
        ports = json.loads(state.read_bytes())["ports"].values() if state.exists() else ()
        sockets = [f for p in ports for f in Path("/tmp").glob(f"seaweedfs-*-grpc-{p}.sock")]
        return (
            [f"process left: {line}" for line in named]
            + [f"file left: {name}" for name in files]
            + [f"socket left: {path}" for path in sockets]
        )

    def _note(self, kill: Kill, training: Training, attempt: Attempt) -> None:
        """Keeps where training was, until the next start says where it goes on."""
        published = any(FINISHED.match(line) for _, line in attempt.lines[-3:])
        if published and training.reached == 39:
            return  # nothing was under way
        kill.step, kill.reached = training.step, training.reached
        self._waiting.append((kill, training, attempt))

    def _compare(self, attempt: Attempt) -> None:
        """Says how much the earlier kills lost, once the step's training goes on."""
        for kill, training, before in list(self._waiting):
            resumed = None
            for _, line in attempt.lines:
                if (match := STARTED.match(line)) and int(match[1]) == training.step:
                    resumed = int(match[2] or 0)
                elif (match := FINISHED.match(line)) and int(match[1]) == training.step:
                    resumed = 39 if resumed is None else resumed
                if resumed is not None:
                    break
            if resumed is None:
                continue
            self._waiting.remove((kill, training, before))
            kill.resumed = resumed
            kill.lost = round(
                0.0
                if resumed >= training.reached
                else training.times[training.reached]
                - training.times.get(resumed, training.times[training.first]),
                2,
            )
            save = before.longest_save
            kill.allowed = round(max(INTERVAL, save) + save + training.longest + LOG_SECONDS, 2)
            if resumed < training.saved:
                kill.problems.append(f"the save of iteration {training.saved} is gone")
            if resumed < training.first:
                kill.problems.append(f"went back behind its own start, {training.first}")
            if kill.lost > kill.allowed:
                kill.problems.append(f"lost {kill.lost} s, allowed are {kill.allowed} s")
            if kill.signal == "TERM" and resumed < training.reached:
                kill.problems.append(f"SIGTERM lost {training.reached - resumed} iterations")

    def _blame(self, problem: str, kill: Kill | None = None) -> None:
        """Notes a problem with the kill that it comes from, or the last one."""
        last = kill or (self.kills[-1] if self.kills else None)
        if last is None:
            last = Kill(self.seed, 0, "nobody", "", None)
            self.kills.append(last)
        last.problems.append(problem)

    def _examine_saves(self, kill: Kill) -> None:
        """Counts the saves: two that are kept, one more before the oldest goes, one under way."""
        with self._store():
            saves: dict[str, bool] = {}
            for entry in storage.list_objects("s3://dkd/saves"):
                step, save = entry.uri.split("/")[4:6]
                whole = entry.uri.endswith(artifacts.MANIFEST)
                saves[f"{step}/{save}"] = saves.get(f"{step}/{save}", False) or whole
            kill.saves = sum(saves.values())
            if kill.saves > 3 or len(saves) - kill.saves > 1:
                kill.problems.append(f"saves in the store: {saves}")

    def _examine_end(self, expected: dict[int, str]) -> None:
        with self._store():
            if (found := digests(self.folder)) != expected:
                self._blame(f"weights differ: {found}")
            self._blame_all("in the store:", leftovers())
        cache = self.folder / "w/cache"
        patterns = ("pack-*", ".digits-*", "*.partial", "*.arriving", "state.safetensors")
        files = [str(path) for pattern in patterns for path in cache.rglob(pattern)]
        self._blame_all("in the cache:", files)

    def _blame_all(self, what: str, problems: list[str]) -> None:
        if problems:
            self._blame(" ".join([what, *problems]))

    def _store(self) -> "Opened":
        return Opened(self.folder / "w/s3")
