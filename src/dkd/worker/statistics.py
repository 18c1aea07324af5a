"""Statistics for a model that keeps none, from images that show its classes (``dkd statistics``).

STAR goes on from a model only by what it keeps of the old classes' features. A model that another
method trained, or another program, has kept nothing; where its images are still there, the same is
computed from them as STAR would have done after training on all of them in one step.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from dkd.data import labels, splits
from dkd.data.index import Dataset
from dkd.data.loading import Source, StepImages
from dkd.data.records import Records
from dkd.errors import UserError
from dkd.methods.base import Circumstances
from dkd.methods.star import KEPT_STATISTICS, STAR
from dkd.network import checkpoint
from dkd.network.deeplab import SegmentationModel
from dkd.network.speed import decided
from dkd.scenario.data import Data
from dkd.scenario.schema import Scenario, parse
from dkd.scenario.tasks import Task
from dkd.steps.step import Step, StepSpec
from dkd.storage import artifacts
from dkd.storage.artifacts import Manifest
from dkd.storage.cache import artifact_cache
from dkd.training.loop import Trainer
from dkd.training.ranks import Ranks


def publish(
    source: str,
    dataset: Dataset,
    folder: Path,
    data: Data,
    variant: str,
    uri: str,
    ranks: Ranks,
    say: Callable[[str], None],
) -> Manifest | None:
    """Publishes a checkpoint anew, with statistics of its classes beside the same weights.

    They are of one pass over the training images that show any of its classes, as augmented crops,
    and the same bits for any number of ranks.

    Args:
        source: URI of the checkpoint.
        dataset: in which every class of the model is labelled.
        folder: in which its images lie.
        data: how the data set was named.
        variant: of STAR; ``basic`` goes on from what ``full`` keeps too.
        uri: the new checkpoint's place.
        ranks: this process's place; every rank takes its share of the images.
        say: prints a line.

    Returns:
        The new checkpoint's manifest, on rank 0.

    Raises:
        UserError: it is no checkpoint, keeps statistics already, has a background channel, or does
            not say how it was trained; a class is not in the data set or in no image; something
            else lies at ``uri``.
    """
    manifest, parts = artifacts.fetch_cached(source, artifact_cache())
    scenario = _scenario(manifest, parts, data, variant)
    classes = checkpoint.describe(parts)["classes"]
    task = Task((tuple(name for names in classes for name in names),))
    held = Records.of(dataset.train).values
    if absent := [name for name in task.classes if dataset.values.get(name) not in held]:
        raise UserError(
            f"{source}: no training image of {dataset.name} holds {', '.join(absent)}; its "
            "statistics need images of every class"
        )
    records = splits.training(dataset, task, "overlap", 0)
    table = labels.training_table(dataset, task, 0)
    images = Source(records, folder, table, labels.covered(task, 0, len(records)))
    say(f"{len(records)} images of {len(task.classes)} classes")
    spec = StepSpec(scenario=scenario, task=task.steps, step=0, dataset=data.root, root="")
    model = checkpoint.read(parts)
    statistics = _computed(model, Step(spec, dataset, None, None), images, ranks, say)
    if not ranks.first:
        return None
    origin = {
        "of": {"uri": source, "digest": manifest.digest},
        "dataset": {"name": dataset.name, "digest": dataset.digest},
        "images": len(records),
    }
    with tempfile.TemporaryDirectory(prefix="dkd-statistics-") as work:
        path = Path(work) / checkpoint.STATISTICS
        checkpoint.save_tensors(path, statistics)
        made = artifacts.publish(
            uri,
            {**{name: parts / name for name in manifest.parts}, checkpoint.STATISTICS: path},
            kind="checkpoint",
            metadata={**manifest.metadata, "statistics": origin},
        )
    if made.metadata.get("statistics") != origin:
        raise UserError(f"{uri}: another {made.kind} is already there; name another place")
    return made


def _computed(
    model: SegmentationModel, step: Step, images: Source, ranks: Ranks, say: Callable[[str], None]
) -> Mapping[str, Tensor]:
    """STAR's statistics of a model's classes, by name, as if the step had just trained it."""
    scenario = step.spec.scenario
    given = Circumstances(
        scenario,
        step=0,
        images_differ=False,
        speed=decided(scenario.speed, ranks.device.type == "cuda"),
        average=ranks.average,
        gather=ranks.gather,
        rank=ranks.rank,
        world_size=ranks.world_size,
    )
    method = STAR(model, None, given)
    drawn = StepImages([images], scenario.training.crop, scenario.seed)
    trainer = Trainer(step, method, drawn, ranks, say)
    return method.finish(lambda model: trainer.walk(model, epoch=trainer.epochs))


def _scenario(manifest: Manifest, parts: Path, data: Data, variant: str) -> Scenario:
    """How a checkpoint was trained, as a scenario of STAR on a data set.

    Raises:
        UserError: nothing can be computed of it, or need be.
    """
    if manifest.kind != "checkpoint":
        raise UserError(f"{manifest.uri}: is {manifest.called}, not a checkpoint")
    description = checkpoint.describe(parts)
    if merged := description.get(checkpoint.CHANNELS):
        raise UserError(
            f"{manifest.uri}: class {min(merged)!r} is merged from several, for which "
            f"{STAR.name} has no prototype; use another method"
        )
    if description.get(checkpoint.BACKGROUND_CHANNEL):
        raise UserError(
            f"{manifest.uri}: has a background channel, so {STAR.name} cannot continue it; "
            "nothing to do"
        )
    if checkpoint.read_statistics(parts).keys() >= set(KEPT_STATISTICS[variant]):
        raise UserError(f"{manifest.uri}: already keeps these statistics; nothing to do")
    document = manifest.metadata.get("scenario")
    if document is None:
        raise UserError(f"{manifest.uri}: does not say how it was trained; name another checkpoint")
    fields = {
        "data": data.model_dump(),
        "method": STAR.name,
        "method_options": {"variant": variant},
        "losses": {},
        "variants": {},
    }
    return parse({**document, **fields}, source=manifest.uri)
