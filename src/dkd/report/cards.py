"""Model cards: what a model is, how good, and where it ends, made from what its run found out.

A checkpoint's card lies in its folder, ``card.md`` and ``card.html``, beside the manifest and not
in it: it is written once the model is scored, and a checkpoint's digest is that of its parts alone.
The same result gives the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import jinja2

from dkd.errors import UserError
from dkd.report.changes import ends, gained_and_forgotten, percent, points
from dkd.report.gate import verdict
from dkd.report.model import Interval, RunResult, StepResult
from dkd.report.tables import escaped

FEW = 10
"""Test images of a class below which a card warns."""
WEAK = 20.0
"""IoU in percent below which a card says that a class is hardly recognised."""
_NAMED = 12  # classes that a sentence names


@dataclass(frozen=True)
class CardRow:
    """A class: its step (empty for background), name, IoU, its interval, test images with it."""

    step: str
    name: str
    iou: float | None
    interval: Interval | None
    images: str


@dataclass(frozen=True)
class Learned:
    """A step: its number, what it learned, on how many images, and what it forgot, in words."""

    number: int
    learned: str
    images: int
    mean: str
    lost: str


@dataclass(frozen=True)
class Card:
    """What a card says; see the templates."""

    title: str
    method: str
    count: int
    facts: tuple[tuple[str, str], ...]
    rows: tuple[CardRow, ...]
    means: tuple[str, ...]
    steps: tuple[Learned, ...]
    limits: tuple[str, ...]
    python: str
    command: str


def card(result: RunResult, index: int = -1) -> Card:
    """The card of a step's model.

    Args:
        result: of its run; what it says of later steps is left out.
        index: which of the result's steps, the last one by default.

    Raises:
        UserError: the result does not name the step's checkpoint.
    """
    step = result.steps[index]
    if step.checkpoint is None:
        raise UserError(f"{result.scenario}: step {step.step} names no checkpoint")
    uri = step.checkpoint.uri
    rows = _rows(result, step)
    until = result.steps[: result.steps.index(step) + 1]
    return Card(
        title=f"{result.scenario}, step {step.step}" if step.step else result.scenario,
        method=result.method,
        count=1 if result.is_joint else step.step + 1,
        facts=tuple(_facts(result, step)),
        rows=rows,
        means=tuple(_means(step)),
        steps=tuple(_steps(result, until)),
        limits=tuple(_limits(result, step, rows)),
        python=f'import dkd\n\nmodel = dkd.load("{uri}")\nseen = model.predict("photograph.jpg")\n'
        "print(seen.found)  # names of the classes in it",
        command=f"dkd predict --checkpoint {uri} photographs/ --output segmented",
    )


def rendered(what: Card) -> dict[str, bytes]:
    """The card's files by name."""
    folder = files("dkd.report")
    found = {}
    for suffix in (".md", ".html"):
        environment = jinja2.Environment(
            autoescape=suffix == ".html",  # noqa: S701 - in Markdown, `md` escapes
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters.update(percent=percent, ends=ends, md=escaped)
        template = (folder / f"card{suffix}.j2").read_text(encoding="utf-8")
        found[f"card{suffix}"] = environment.from_string(template).render(card=what).encode()
    return found


def _rows(result: RunResult, step: StepResult) -> tuple[CardRow, ...]:
    within = step.scores.intervals
    numbers = [""] + [str(n) for n, names in enumerate(result.task) for _ in names]
    rows = []
    for channel, iou in enumerate(step.scores.iou):
        rows.append(
            CardRow(
                numbers[channel],
                result.channels[channel],
                iou,
                within.iou[channel] if within else None,
                str(within.images[channel]) if within else "–",
            )
        )
    return tuple(rows)


def _facts(result: RunResult, step: StepResult) -> Sequence[tuple[str, str]]:
    checkpoint = step.checkpoint
    assert checkpoint is not None
    memory = step.memory
    rows = [
        ("checkpoint", checkpoint.uri),
        ("digest", checkpoint.digest),
        ("licence", result.licence or "not stated"),
        ("data set", f"{result.dataset.name}, digest {result.dataset.digest}"),
        ("learned with exemplars", f"digest {memory.digest}" if memory else "none"),
        ("model before", f"digest {step.teacher.digest}" if step.teacher else "none"),
        ("began from", step.start),
        ("gate", verdict(step.gate).removeprefix("Gate: ") or "nothing asked"),
        ("protocol", result.protocol),
        ("seed", str(result.seed)),
        ("device", result.provenance.device),
        ("software", ", ".join(f"{k} {v}" for k, v in sorted(result.provenance.versions.items()))),
    ]
    return [(name, value) for name, value in rows if value]


def _means(step: StepResult) -> Sequence[str]:
    scores, within = step.scores, step.scores.intervals
    told = []
    for name, field in (
        ("mIoU of all classes", "miou_all"),
        ("of the first step's", "miou_old"),
        ("of the later ones", "miou_new"),
        ("pixels right", "pixel_accuracy"),
    ):
        value = getattr(scores, field)
        interval = getattr(within, field) if within else None
        if value is not None:
            told.append(f"{name} {value:.1f} %" + (f" ({ends(interval)})" if interval else ""))
    return told or ["Not scored: no test image shows one of its classes"]


def _steps(result: RunResult, until: Sequence[StepResult]) -> Sequence[Learned]:
    told = []
    before: StepResult | None = None
    for step in until:
        mean = lost = "–"
        if before is not None:
            changes = gained_and_forgotten(before.scores, step.scores, result.classes)
            mean = points(changes.mean_difference)
            worst = [f"{c.name} {points(c.difference)}" for c in changes.forgotten()[:4]]
            lost = ", ".join(worst) or "nothing"
        told.append(Learned(step.step, _some(step.new_classes), step.images, mean, lost))
        before = step
    return told


def _limits(result: RunResult, step: StepResult, rows: Sequence[CardRow]) -> Sequence[str]:
    told = [
        f"The figures are those of the test images of {result.dataset.name}; other photographs may "
        "give others.",
        "Whatever is none of its classes it takes for background, or for one of them.",
    ]
    unscored = [row.name for row in rows if row.iou is None]
    if unscored:
        told.append(f"Never tested, for want of test images: {_some(unscored)}.")
    if step.scores.intervals:
        few = [row.name for row in rows if row.iou is not None and int(row.images) < FEW]
        if few:
            told.append(f"Tested on fewer than {FEW} images: {_some(few)}.")
    weak = [row.name for row in rows if row.iou is not None and row.iou < WEAK]
    if weak:
        told.append(f"Hardly recognised (IoU below {WEAK:.0f} %): {_some(weak)}.")
    if not result.licence:
        told.append("Nobody has stated a licence: ask before you give it away.")
    return told


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
