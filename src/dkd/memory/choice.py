"""Which images the exemplar memory takes in after a step."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from dkd.data import labels
from dkd.data.channels import void_of
from dkd.data.loading import EvaluationImages
from dkd.data.records import Record, Records
from dkd.evaluation.evaluator import evaluated
from dkd.memory.candidates import CandidateImage
from dkd.memory.exemplars import Memory
from dkd.memory.pseudo_labels import SeenInBackground
from dkd.memory.selection import Candidate, choose
from dkd.memory.writer import write
from dkd.network.deeplab import SegmentationModel
from dkd.network.preparation import prepare_frozen
from dkd.network.speed import decided
from dkd.scenario.tasks import BACKGROUND
from dkd.steps.step import Step
from dkd.training.ranks import Ranks


def choose_exemplars(
    step: Step,
    model: SegmentationModel,
    previous: Memory | None,
    fetch: Callable[[Sequence[Record]], Path],
    ranks: Ranks,
    work: Path,
    say: Callable[[str], None],
) -> dict[str, Path]:
    """Chooses the memory for the step after this one.

    Candidates are the previous memory and the step's own images; a candidate's classes are
    those in its whole mask and, from the second model on, those that the model sees in its
    background (paper, section 3.4). Whether one of the previous memory is looked at again or
    keeps the classes that it was stored with is the protocol's.

    Args:
        step: the step just trained.
        model: its model; it is prepared for speed in place.
        previous: the memory that it trained with.
        fetch: gives a folder in which the files of these records can be read.
        ranks: this process's place.
        work: folder for the parts, on rank 0.
        say: prints a line; called on rank 0 only.

    Returns:
        The memory's parts by name; complete on rank 0.
    """
    classes = step.task.seen(step.number)
    held = _candidates(step, previous, fetch, classes)
    if step.number >= 1:
        again = step.protocol.exemplars_seen_again
        looked_at = [h for h in held if again or h.step == step.number]
        seen = _seen_in_background(step, model, looked_at, ranks)
        held = [
            replace(h, seen=tuple(classes[channel - 1] for channel in sorted(seen[h.name])))
            if h.name in seen
            else h
            for h in held
        ]
    if not ranks.first:
        return {}
    channel_of = {name: channel for channel, name in enumerate(classes, start=1)}
    candidates = [
        Candidate(h.name, frozenset(h.channels | {channel_of[name] for name in h.seen}))
        for h in held
    ]
    size = step.scenario.memory_size
    chosen = choose(candidates, tuple(range(1, len(classes) + 1)), size, step.scenario.seed)
    if len(chosen) < size:
        say(
            f"warning: memory_size is {size}, but only {len(chosen)} of {len(candidates)} "
            "candidates hold a class: all of them are taken"
        )
    return write([held[i] for i in chosen], step.task.upto(step.number).steps, work)


def _candidates(
    step: Step,
    previous: Memory | None,
    fetch: Callable[[Sequence[Record]], Path],
    classes: tuple[str, ...],
) -> list[CandidateImage]:
    own = step.training_records
    folder = fetch(own)
    table = labels.training_table(step.dataset, step.task, step.number)
    no_class = (BACKGROUND, void_of(table))
    found = [
        CandidateImage(
            r,
            folder,
            table,
            step.number,
            tuple(step.dataset.classes[v] for v in r.classes if table[v] not in no_class),
            step.dataset.digest,
            verify=True,
        )
        for r in own
    ]
    if previous is not None:
        taken = {record.digest for record in own}
        kept = previous.table(classes, keep=True)
        found += [
            CandidateImage(
                r, previous.folder, kept, e.step, e.classes, e.dataset, verify=False, seen=e.seen
            )
            for r, e in zip(previous.records(classes), previous.exemplars, strict=True)
            if e.digest not in taken
        ]
    return found


def _seen_in_background(
    step: Step, model: SegmentationModel, held: Sequence[CandidateImage], ranks: Ranks
) -> dict[str, set[int]]:
    """For each candidate's name, the channels that the model is sure to see in its background."""
    training = step.scenario.training
    speed = decided(step.scenario.speed, gpu=ranks.device.type == "cuda")
    # Candidates that share a folder and a table: the step's own, and the previous memory's.
    together: dict[tuple[Path, int], list[CandidateImage]] = {}
    for candidate in held:
        together.setdefault((candidate.folder, id(candidate.table)), []).append(candidate)
    images = [
        EvaluationImages(
            Records(candidate.record for candidate in alike),
            alike[0].folder,
            alike[0].table,
            training.crop,
            whole=True,
            rank=ranks.rank,
            world_size=ranks.world_size,
            verify=alike[0].verify,
        )
        for alike in together.values()
    ]
    return evaluated(
        prepare_frozen(model.to(ranks.device), speed),
        images,
        SeenInBackground(ranks.gather, model.reading),
        ranks.device,
        speed,
        training.loader_workers,
    )
