"""Kills a real run over and over, at seeded random moments, and looks at what is lost and left.

    python benchmarks/kills.py --kills 100 --record kills.jsonl
    python benchmarks/kills.py --table kills.jsonl

One undisturbed run gives the checkpoints that every other must end with. Then come *chains*: a run
of the same scenario in a new workspace (`dkd run`: 2 ranks, two steps and a memory, the embedded S3
server) is started, killed at a random moment, started again, killed again, ..., until it is
finished. Each kill is of one kind:

    rank KILL, rank TERM              one of the ranks, at random
    torchrun KILL, torchrun TERM      the process that watches over the ranks
    component KILL, component TERM    KFP's component, which launched torchrun
    run KILL, run TERM                `dkd run` itself, which owns the S3 server
    run INT                           Ctrl-C in its terminal
    store KILL                        SeaweedFS; the run starts it again and goes on

and comes at a moment of the run's own progress, after a random short delay: the n-th line of its
output, the n-th iteration of a step, the n-th save under way, or a stage's end.

After each kill nothing may be left: no process that carries the chain's mark or works in its folder
or has become an orphan (this program is the reaper of its descendants), no file in TMPDIR, no
socket of the server. In the store there may be the last two saves and the one that was under
way. The next start must resume from the last save that the log tells of, or a later one, and within
one saving interval (and the time of a save and an iteration) of where the log of the killed one
ended; after SIGTERM exactly there or later. At the end of a chain both
checkpoints have the undisturbed run's sha256, every artifact is whole, and no save, part or upload
is left.

Every kill is a line of JSON in the record; exit status 1 if one shows a problem. The same seed
gives the same chains, as far as timing allows. A kill takes about as long as a start of the run,
20 s on two idle cores.
"""

import argparse
import ctypes
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

from dkd import storage
from dkd.storage import artifacts
from dkd.storage.embedded import EmbeddedStore

KINDS = [
    (victim, name)
    for victim in ("rank", "torchrun", "component", "run")
    for name in ("KILL", "TERM")
] + [("run", "INT"), ("store", "KILL")]
MARK = "KILLS_CHAIN"
INTERVAL = 1.0
"""Seconds between saves."""
LOG_SECONDS = 0.5
"""By how much a line of the log may be late; lines are all that times are taken from."""
GONE_SECONDS = 20.0
"""How long processes and files may take to disappear."""
RUN_SECONDS = 900.0
"""No start of the run may take longer; a busy machine is slow."""
MOST_KILLS = 15
"""Kills of a chain after which it may finish."""

# An epoch is one iteration, so that the log has every iteration; with 39 each is told.
TASK = "[[zero, one, two, three], [four, five]]"
SCENARIO = f"""\
name: kills
data: {{{{format: digits, pack: true, digits: {{{{train: 60, validation: 12, size: 32}}}}}}}}
task: {{task}}
network: {{{{backbone: demo, aspp_channels: 128}}}}
memory_size: 8
training:
  epochs: {{{{first: 39, later: 39}}}}
  batch_size: 40
  crop: 32
  lr: {{{{first: 0.01, later: 0.0001}}}}
  precision: fp32
  loader_workers: 1
  save_interval: {INTERVAL}
launch: {{{{processes_per_node: 2, threads: 1}}}}
"""

STARTED = re.compile(r"step (\d) \(.*iterations on \d ranks \(\w+\)(?:, from iteration (\d+))?")
SAVED = re.compile(r"  saved at iteration (\d+)")
ITERATION = re.compile(r"  epoch (\d+)/39: ")
FINISHED = re.compile(r"step (\d) train: ")
STAGE = re.compile(r"step \d (train|evaluate|memory): [\d.]+ s")


@dataclass
class Moment:
    """When to kill: ``number`` events after the start of the run, and ``delay`` seconds more."""

    event: str  # line, iteration, save or stage
    number: int
    delay: float

    @classmethod
    def draw(cls, random: random.Random) -> "Moment":
        event = random.choices(["line", "iteration", "save", "stage"], [3, 8, 6, 3])[0]
        number, delay = {
            "line": (random.randint(1, 9), random.uniform(0, 2)),
            "iteration": (random.randint(1, 12), random.uniform(0, 0.5)),
            "save": (random.randint(1, 4), random.uniform(0, 0.5)),
            "stage": (random.randint(1, 4), random.uniform(0, 1.5)),
        }[event]
        return cls(event, number, round(delay, 3))


@dataclass
class Attempt:
    """What one start of the run said, and when."""

    lines: list[tuple[float, str]] = field(default_factory=list)
    saves: dict[str, tuple[float, float]] = field(default_factory=dict)  # first and last seen

    def count(self, event: str) -> int:
        """How often an event has happened so far."""
        if event == "save":
            return len(self.saves)
        pattern = {"iteration": ITERATION, "stage": STAGE}.get(event)
        return sum(1 for _, line in self.lines if pattern is None or pattern.match(line))

    def look_for_saves(self, temporary: Path) -> None:
        """Notes the saves that are under way: their temporary folders."""
        for folder in temporary.glob("dkd-*/dkd-*/dkd-save-*"):
            now = time.monotonic()
            self.saves[folder.name] = (self.saves.get(folder.name, (now,))[0], now)

    @property
    def longest_save(self) -> float:
        return max((last - first for first, last in self.saves.values()), default=0.0)

    @property
    def training(self) -> "Training | None":
        """The last training that it began, and how far that came."""
        found: Training | None = None
        for when, line in list(self.lines):
            if match := STARTED.match(line):
                first = int(match[2] or 0)
                found = Training(int(match[1]), first, {first: when})
            elif (match := ITERATION.match(line)) and found:
                found.times[int(match[1])] = when
            elif (match := SAVED.match(line)) and found:
                found.saved = int(match[1])
        return found


@dataclass
class Training:
    """How far a step's training came: when which iteration was told, and the last save told."""

    step: int
    first: int
    times: dict[int, float]
    saved: int = 0

    @property
    def reached(self) -> int:
        return max(self.times)

    @property
    def longest(self) -> float:
        """The longest time between two lines, in seconds."""
        times = sorted(self.times.values())
        return max((b - a for a, b in pairwise(times)), default=0.0)


@dataclass
class Kill:
    """One kill, as it is recorded.

    Attributes:
        chain: seed of the chain.
        number: place in the chain.
        victim: what was killed.
        signal: with which signal.
        moment: when that was to be; None if the run ended before.
        progress: where the run was, in words of its own log.
        status: the killed run's exit status.
        last: its last line.
        gone: seconds until nothing was left.
        step: that was being trained; None if none was.
        reached: the last iteration told.
        resumed: the iteration that the step went on from at the next start; the last one, 39, if
            the step was finished; None if the chain ended first.
        lost: seconds between the two.
        allowed: seconds that may be lost.
        saves: whole saves in the store afterwards; None if nobody looked.
        problems: what should not be.
    """

    chain: int
    number: int
    victim: str
    signal: str
    moment: Moment | None
    progress: str = ""
    status: int | None = None
    last: str = ""
    gone: float = 0.0
    step: int | None = None
    reached: int | None = None
    resumed: int | None = None
    lost: float | None = None
    allowed: float | None = None
    saves: int | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        if self.problems:
            return "problem"
        if self.victim == "store":
            return "went on"
        if self.reached is None:
            return "no training under way"
        if self.resumed is None:
            return "not started again"
        return "step was done" if self.resumed == 39 else "resumed" if self.resumed else "afresh"


class Chain:
    """A run in a workspace of its own that is killed until it is finished."""

    def __init__(self, seed: int, kinds: Iterator[tuple[str, str]], folder: Path) -> None:
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
            victim, name = next(self.kinds)
            kill = Kill(self.seed, len(self.kills), victim, name, Moment.draw(self.random))
            if self._start(kill):
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
        reader = threading.Thread(target=_read, args=(process, attempt), daemon=True)
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
        words = {"torchrun": b"dkd.launching.torchrun", "component": b"kfp.dsl.executor_main"}
        found = {p: command_line(p) for p in marked(self.mark)}
        if victim == "rank":
            torchruns = [p for p, words in found.items() if b"dkd.launching.torchrun" in words]
            ranks = [p for p in found if parent(p) in torchruns and b"dkd.train" in found[p]]
            return self.random.choice(sorted(ranks)) if ranks else None
        for number, line in found.items():
            if victim == "store" and line[0].endswith(b"weed"):
                return number
            if victim in words and words[victim] in line:
                return number
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
        for each in [*marked(self.mark), *orphans()]:
            os.kill(each, signal.SIGKILL)
        shutil.rmtree(self.temporary)
        self.temporary.mkdir()
        return round(time.monotonic() - since, 2), left

    def _left(self) -> list[str]:
        processes = {*marked(self.mark), *working_in(self.folder), *orphans()}
        named = [b" ".join(command_line(p))[:80].decode(errors="replace") for p in processes]
        files = [str(path.relative_to(self.folder)) for path in self.temporary.rglob("*")]
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


class Opened:
    """The store of a run that is not running; the environment is as before afterwards."""

    def __init__(self, folder: Path) -> None:
        self._store = EmbeddedStore(folder)

    def __enter__(self) -> EmbeddedStore:
        self._before = dict(os.environ)
        store = self._store.__enter__()
        os.environ.update(store.environment())
        return store

    def __exit__(self, *_: object) -> None:
        os.environ.clear()
        os.environ.update(self._before)
        self._store.close()


def start_run(folder: Path, temporary: Path, mark: str) -> "subprocess.Popen[str]":
    scenario = folder.parent / "kills.yaml"
    others = ("AWS_", "DKD_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(others)}
    return subprocess.Popen(
        [sys.executable, "-m", "dkd", "run", str(scenario), "--workspace", str(folder / "w")],
        cwd=folder,
        env={**environment, "TMPDIR": str(temporary), MARK: mark},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def _read(process: "subprocess.Popen[str]", attempt: Attempt) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        attempt.lines.append((time.monotonic(), line.rstrip("\n")))


def digests(folder: Path) -> dict[int, str]:
    """sha256 of every step's weights in the open store, by step."""
    found = {}
    for uri in places("checkpoints"):
        manifest = artifacts.load(uri)
        out = folder / "weights"
        artifacts.fetch(uri, out)
        step = json.loads((out / "checkpoint.json").read_text())["step"]
        found[step] = sha256((out / "model.safetensors").read_bytes()).hexdigest()
        assert found[step] == manifest.parts["model.safetensors"].sha256
        shutil.rmtree(out)
    return found


def places(folder: str) -> list[str]:
    """URIs of the folders of artifacts, whole or not."""
    objects = storage.list_objects(f"s3://dkd/{folder}")
    return sorted({"/".join(entry.uri.split("/")[:5]) for entry in objects})


def leftovers() -> list[str]:
    """Objects of the open store that belong to nothing."""
    found = [entry.uri for entry in storage.list_objects("s3://dkd/saves")]
    found += [f"upload of {leftover.uri}" for leftover in storage.unfinished("s3://dkd")]
    for folder in ("checkpoints", "evaluations", "memories", "datasets"):
        for uri in places(folder):
            manifest = artifacts.find(uri)
            used = {manifest.part_uri(name) for name in manifest.parts} if manifest else set()
            objects = {entry.uri for entry in storage.list_objects(uri)}
            found += sorted(objects - used - {storage.join(uri, artifacts.MANIFEST)})
    return found


# ---- processes, by a reading of /proc of this program's own


def all_processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def command_line(process: int) -> list[bytes]:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return [b""]


def parent(process: int) -> int | None:
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    state, number = text.rpartition(")")[2].split()[:2]
    return None if state == "Z" else int(number)


def marked(mark: str) -> list[int]:
    found = []
    for process in all_processes():
        try:
            if f"{MARK}={mark}".encode() in Path(f"/proc/{process}/environ").read_bytes():
                found.append(process)
        except OSError:
            continue
    return found


def working_in(folder: Path) -> list[int]:
    found = []
    for process in all_processes():
        try:
            if Path(f"/proc/{process}/cwd").readlink().is_relative_to(folder):
                found.append(process)
        except OSError:
            continue
    return found


def orphans() -> list[int]:
    """This program's children: it is the reaper of its descendants, and has just waited for the
    one that it started itself.
    """
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                break
        except ChildProcessError:
            break
    return [process for process in all_processes() if parent(process) == os.getpid()]


def become_reaper() -> None:
    if ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) != 0:  # PR_SET_CHILD_SUBREAPER
        raise OSError("prctl")


# ---- the program


def undisturbed(folder: Path) -> dict[int, str]:
    """Runs the scenario once without a kill; the digests of its weights."""
    (folder / "t").mkdir(parents=True)
    process = start_run(folder, folder / "t", "undisturbed")
    output, _ = process.communicate(timeout=RUN_SECONDS)
    if process.returncode != 0:
        raise SystemExit(f"the undisturbed run failed:\n{output}")
    with Opened(folder / "w/s3"):
        expected = digests(folder)
        if left := leftovers():
            raise SystemExit(f"the undisturbed run left {left}")
    shutil.rmtree(folder)
    return expected


def deck(seed: int) -> Iterator[tuple[str, str]]:
    """The kinds in shuffled rounds, so that each comes equally often."""
    shuffler = random.Random(seed)
    while True:
        yield from shuffler.sample(KINDS, len(KINDS))


def table(kills: list[dict[str, object]]) -> str:
    """Kinds and outcomes as Markdown."""
    outcomes = [
        "resumed",
        "afresh",
        "step was done",
        "no training under way",
        "went on",
        "not started again",
        "problem",
    ]
    lines = [
        f"| killed | signal | kills | {' | '.join(outcomes)} | most lost, s | left for, s |",
        f"|---|---|{'---:|' * (len(outcomes) + 3)}",
    ]
    rows = [*KINDS, ("all", "")]
    for victim, name in rows:
        of = [k for k in kills if victim == "all" or (k["victim"], k["signal"]) == (victim, name)]
        if not of:
            continue
        counts = Counter(k["outcome"] for k in of)
        lost, gone = (max(float(str(k[key] or 0)) for k in of) for key in ("lost", "gone"))
        cells = [str(counts[outcome]) for outcome in outcomes]
        lines.append(
            f"| {victim} | {name} | {len(of)} | {' | '.join(cells)} | {lost:.1f} | {gone:.1f} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, help="how many, at least (100)")
    parser.add_argument("--seed", type=int, default=1, help="of the first chain (1)")
    parser.add_argument("--record", type=Path, help="file that the lines of JSON are added to")
    parser.add_argument("--work", type=Path, help="folder for the workspaces")
    parser.add_argument("--per-chain", type=int, default=MOST_KILLS, help="kills of a run at most")
    parser.add_argument("--steps", type=int, choices=(1, 2), default=2, help="of the run (2)")
    parser.add_argument("--table", type=Path, help="only print the table of this record")
    given = parser.parse_args()
    if given.table:
        print(table([json.loads(line) for line in given.table.read_text().splitlines()]))
        return 0
    become_reaper()
    work = given.work or Path(tempfile.mkdtemp(prefix="kills-"))
    work.mkdir(parents=True, exist_ok=True)
    task = TASK if given.steps == 2 else TASK.split("], ")[0] + "]]"
    (work / "kills.yaml").write_text(SCENARIO.format(task=task))
    known = work / f"expected-{given.steps}.json"
    if known.exists():
        expected = {int(step): digest for step, digest in json.loads(known.read_text()).items()}
    else:
        expected = undisturbed(work / "undisturbed")
        known.write_text(json.dumps(expected))
    kinds, kills, seed = deck(given.seed), list[dict[str, object]](), given.seed
    while len(kills) < given.kills:
        folder = work / f"c{seed}"
        chain = Chain(seed, kinds, folder)
        wanted = min(given.kills - len(kills), given.per_chain)
        for kill in chain.follow(wanted, expected):
            kills.append({**asdict(kill), "outcome": kill.outcome})
            line = json.dumps(kills[-1])
            print(line, flush=True)
            if given.record:
                with given.record.open("a") as record:
                    record.write(line + "\n")
        if not any(kill.problems for kill in chain.kills):
            shutil.rmtree(folder)
        seed += 1
    print(table(kills))
    return 1 if any(kill["problems"] for kill in kills) else 0


if __name__ == "__main__":
    sys.exit(main())
