"""Model cards beside the checkpoints that they describe; what they say: :mod:`dkd.report.cards`."""

from dkd import storage
from dkd.errors import UserError
from dkd.report.cards import card, rendered
from dkd.report.model import RunResult, StepResult
from dkd.storage.store import NotFound


def write(result: RunResult) -> None:
    """Puts the card of each model that the run trained beside it, and of those it found that have
    none. The teacher of an extension keeps its own.

    Raises:
        UserError: storage failed.
    """
    for index, step in enumerate(result.steps):
        checkpoint = step.checkpoint
        if checkpoint is None or not (step.origin == "trained" or _lacks_card(step, index)):
            continue
        for name, content in rendered(card(result, index)).items():
            storage.write_bytes(storage.join(checkpoint.uri, name), content)


def _lacks_card(step: StepResult, index: int) -> bool:
    """Whether a model that was found has no card, and the result knows all its steps."""
    if step.checkpoint is None or step.elsewhere or step.step != index:
        return False
    return not storage.exists(storage.join(step.checkpoint.uri, "card.md"))


def read(checkpoint: str, suffix: str) -> bytes:
    """A checkpoint's card.

    Args:
        checkpoint: its URI.
        suffix: ``.md`` or ``.html``.

    Raises:
        UserError: another suffix, or it has no card: it was never scored by a run, or before
            there were cards.
    """
    if suffix not in (".md", ".html"):
        raise UserError(f"--card: a card is written as .md or .html, not {suffix or 'without one'}")
    try:
        return storage.read_bytes(storage.join(checkpoint, f"card{suffix}"))
    except NotFound:
        raise UserError(
            f"{checkpoint}: has no card; a run that finds this checkpoint writes one (start its "
            "run again; nothing is trained)"
        ) from None
