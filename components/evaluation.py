"""An evaluation as Kubeflow Pipelines shows it: what the components share that have one made."""

from pathlib import Path

from kfp import dsl

from dkd.errors import UserError
from dkd.report import collect, gate, tracking
from dkd.steps.step import StepSpec
from dkd.storage.artifacts import Manifest


def show(
    spec: StepSpec,
    evaluation: Manifest | None,
    run: str,
    metrics: dsl.Metrics,
    confusion_matrix: dsl.ClassificationMetrics,
    page: dsl.HTML,
    card: dsl.HTML | None = None,
    *,
    judged: bool = True,
) -> None:
    """Fills in what the UI shows of a model's evaluation, and judges the model.

    Args:
        spec: the step.
        evaluation: of its model; None where there was nothing to score it on.
        run: name of the run.
        metrics: percent by name.
        confusion_matrix: drawn where it is readable.
        page: of this step and those before it; see :func:`is_shown`.
        card: the model's, where the step made one.
        judged: whether the gate is about this model; it is not about an extension's teacher.

    Raises:
        UserError: the model failed its gate, and the run is to stop then.
    """
    if evaluation is None:
        print(f"step {spec.step} evaluate: no test image shows a class of this model")
        return
    shown = collect.shown(evaluation, spec)
    for name, value in shown.metrics.items():
        metrics.log_metric(name, value)
    if len(shown.channels) <= collect.READABLE_CHANNELS:
        confusion_matrix.log_confusion_matrix(list(shown.channels), shown.confusion)
    if not (is_shown(page) or spec.scenario.gate.asks or tracking.is_wanted()):
        return
    result = collect.so_far(spec, evaluation, run)
    if is_shown(page):
        Path(page.path).write_text(collect.page([result]), encoding="utf-8")
        if card:
            from dkd.report import cards

            Path(card.path).write_bytes(cards.rendered(cards.card(result))["card.html"])
    tracking.tell(result, run, print, finished=False)
    if not judged:
        return
    checks = result.steps[-1].gate
    if verdict := gate.verdict(checks):
        print(f"step {spec.step}: {verdict}")
    if gate.failed(checks) and spec.scenario.gate.on_failure == "stop":
        checkpoint = evaluation.metadata["checkpoint"]["uri"]
        raise UserError(
            f"step {spec.step}: {verdict}; the run stops here (gate.on_failure=stop), what was "
            f"trained is kept: {checkpoint}"
        )


def is_shown(page: dsl.HTML) -> bool:
    """Whether a UI shows a page: not under KFP's local runner, which has none, keeps artifacts in
    a folder, and whose runs end with a report of their own. It takes most of a task's time there.
    """
    return "://" in page.uri
