"""Checks a model, new classes and their data before they are learned."""

from typing import NamedTuple

from dkd.components import component


@component
def prepare_extension(
    teacher: str,
    classes: list,  # type: ignore[type-arg]
    data: dict,  # type: ignore[type-arg]
    artifact_root: str,
    overrides: dict,  # type: ignore[type-arg]
) -> NamedTuple(  # type: ignore[valid-type]
    "Prepared",
    [
        ("scenario", str),
        ("dataset", str),
        ("task", list),
        ("step", int),
        ("teacher_step", int),
    ],
):
    """Works out the step that adds the classes, and publishes the new data's index.

    Args:
        teacher: URI of the checkpoint that knows the old classes.
        classes: names of the new classes.
        data: the new data set: fields of :class:`dkd.scenario.Data`.
        artifact_root: where every result lies.
        overrides: values by dotted field that replace the teacher's scenario's.

    Returns:
        How the new step is trained, the data's URI, class names by step, the step's number and
        its teacher's.
    """
    from collections import namedtuple

    from dkd import stages
    from dkd.errors import told

    with told():
        made = stages.prepare_extension(
            teacher, classes, stages.parsed_data(data), overrides, artifact_root
        )
    Prepared = namedtuple("Prepared", ["scenario", "dataset", "task", "step", "teacher_step"])
    task = [list(names) for names in made.task.steps]
    return Prepared(made.scenario.model_dump_json(), made.dataset, task, made.step, made.step - 1)
