"""Checks the scenario and its data set before anything is trained."""

from typing import NamedTuple

from dkd.components import component


@component
def prepare_data(
    scenario: str,
    artifact_root: str,
    run_name: str,
    overrides: dict,  # type: ignore[type-arg]
) -> NamedTuple("Prepared", [("scenario", str), ("dataset", str), ("task", list)]):  # type: ignore[valid-type]
    """Applies the run's parameters to the scenario, checks data set and task, publishes the index.

    Args:
        scenario: the compiled scenario, as JSON.
        artifact_root: where every result of this and other runs lies.
        run_name: name of the run; taken by one scenario only.
        overrides: values by dotted field that the run's form replaces; empty ones are the
            scenario's.

    Returns:
        The scenario with the run's values, the data set's URI, class names by step.
    """
    from collections import namedtuple

    from dkd import stages
    from dkd.errors import told

    with told():
        resolved = stages.resolve(scenario, overrides)
        stages.claim_run(artifact_root, run_name, resolved)
        prepared = stages.prepare(resolved, artifact_root)
    Prepared = namedtuple("Prepared", ["scenario", "dataset", "task"])
    task = [list(names) for names in prepared.task.steps]
    return Prepared(resolved.model_dump_json(), prepared.dataset, task)
