"""Which models saw an image: what was learned from it cannot be taken out of them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dkd import methods
from dkd.data import splits
from dkd.data.index import Dataset
from dkd.scenario.schema import parse
from dkd.scenario.tasks import Task
from dkd.steps.retention import Survey, tail
from dkd.steps.step import read_json
from dkd.storage.artifacts import Manifest


@dataclass(frozen=True)
class Seen:
    """A model that saw some of the images.

    Attributes:
        checkpoint: the model.
        how: ``its own step's image``, ``an exemplar``, ``through its teacher``; or that its
            data set is not there to be asked.
    """

    checkpoint: Manifest
    how: tuple[str, ...]


def seen_by(
    found: Survey,
    images: frozenset[str],
    memories: Collection[str],
    datasets: Mapping[str, Dataset],
) -> tuple[Seen, ...]:
    """The models under a root that trained on some images, or began as a copy of one that did.

    Args:
        found: what lies there.
        images: their ids.
        memories: ``<folder>/<key>`` of the memories that hold them. (A memory stays at its place
            when images were taken out of it; its digest is another one then.)
        datasets: every data set there, by ``<folder>/<key>``.

    Returns:
        The models, oldest first.
    """
    models = sorted(
        (m for m in found.manifests.values() if m.kind == "checkpoint"), key=lambda m: m.created
    )
    how: dict[str, list[str]] = {}
    for model in models:
        reasons = how.setdefault(tail(model.uri), [])
        if (memory := model.metadata.get("memory")) and tail(memory["uri"]) in memories:
            reasons.append("an exemplar")
        reference = model.metadata.get("dataset")
        if reference and reference.get("uri"):
            dataset = datasets.get(tail(reference["uri"]))
            if dataset is None:
                reasons.append("perhaps: its data set is not under this root")
            elif images & _trained_on(model, dataset):
                reasons.append("its own step's image")
    changed = True
    while changed:
        changed = False
        for model in models:
            teacher = model.metadata.get("teacher")
            reasons = how[tail(model.uri)]
            word = "through its teacher"
            if teacher and word not in reasons and how.get(tail(teacher["uri"])):
                reasons.append(word)
                changed = True
    return tuple(Seen(m, tuple(how[tail(m.uri)])) for m in models if how[tail(m.uri)])


def _trained_on(model: Manifest, dataset: Dataset) -> frozenset[str]:
    """Ids of the images of the model's own step; every training image if it does not say which."""
    document = model.metadata.get("scenario")
    if document is None:
        return frozenset(record.id for record in dataset.train)
    scenario = parse(document, source=model.uri)
    task = Task.of(scenario.task, dataset.classes)
    if methods.get(scenario.method).joint:
        task = task.joint()
    step = read_json(model, "checkpoint.json")["step"]
    return frozenset(r.id for r in splits.training(dataset, task, scenario.setting, step))
