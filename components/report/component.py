"""Writes the report of a run."""

from typing import NamedTuple

from kfp import dsl

from dkd.components import component


@component
def report(
    scenario: str,
    task: list,  # type: ignore[type-arg]
    dataset: str,
    artifact_root: str,
    run_name: str,
    checkpoints: list,  # type: ignore[type-arg]
    evaluations: list,  # type: ignore[type-arg]
    memories: list,  # type: ignore[type-arg]
    model_name: str,
    model_registry_url: str,
    kubeflow_run: str,
    report_page: dsl.Output[dsl.HTML],
) -> NamedTuple("Reported", [("result", str), ("gate", str)]):  # type: ignore[valid-type]
    """Gathers every step's results into one page and one document, writes each model's card, and
    adds a version to the model that the run is for.

    Args:
        scenario: URI of the resolved scenario.
        task: class names by step.
        dataset: URI of the data set artifact.
        artifact_root: where results lie.
        run_name: name of the run.
        checkpoints: URI of every step's model, in order.
        evaluations: URI of every step's evaluation, empty where there was nothing to score it on.
        memories: URI of every step's memory, empty where there is none.
        model_name: of the model whose next version the last step's is; empty for none.
        model_registry_url: of a Kubeflow Model Registry that is told of the version; empty for
            that which DKD_MODEL_REGISTRY names, if any.
        kubeflow_run: id of the run; empty under the local runner.
        report_page: the report.

    Returns:
        URI of the run's result document, and the last step's gate in words, such as "Gate: failed,
        sheep 12.3 (8.0 to 15.1) < 20".
    """
    import os
    from collections import namedtuple
    from pathlib import Path

    from dkd.components import evaluation
    from dkd.log import told
    from dkd.report import collect, gate, stored_cards, tracking
    from dkd.steps import stages

    with told(run_name):
        resolved, steps = stages.resolved(scenario, task)
        result = collect.gather(
            resolved, steps, dataset, run_name, checkpoints, evaluations, memories
        )
        uri = collect.publish(result, artifact_root, run_name)
        if evaluation.is_shown(report_page):
            Path(report_page.path).write_text(collect.page([result]), encoding="utf-8")
        tracking.tell(result, run_name, print, finished=True)
        stored_cards.write(result)
        verdict = gate.verdict(result.steps[-1].gate) or "Gate: nothing asked"
        print(verdict)
        if model_name:
            from dkd.models import adding

            adding.add_result(
                artifact_root,
                model_name,
                run_name,
                result,
                registry=model_registry_url or os.environ.get(adding.REGISTRY, ""),
                say=print,
                kubeflow_run=kubeflow_run,
            )
    Reported = namedtuple("Reported", ["result", "gate"])
    return Reported(uri, verdict)
