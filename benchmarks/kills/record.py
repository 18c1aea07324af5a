"""What is killed when, and how a kill is recorded."""

import random
from collections import Counter
from dataclasses import dataclass, field

KINDS = [
    (victim, name)
    for victim in ("rank", "torchrun", "component", "run")
    for name in ("KILL", "TERM")
] + [("run", "INT"), ("store", "KILL")]


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


class Deck:
    """The kinds in shuffled rounds, so that each comes equally often."""

    def __init__(self, seed: int) -> None:
        self._shuffler = random.Random(seed)
        self._left: list[tuple[str, str]] = []

    def draw(self) -> tuple[str, str]:
        if not self._left:
            self._left = self._shuffler.sample(KINDS, len(KINDS))
        return self._left.pop(0)

    def put_back(self, kind: tuple[str, str]) -> None:
        """A kind whose moment did not come, as the run was over before, is the next one."""
        self._left.insert(0, kind)


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
