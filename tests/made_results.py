"""Finished runs of tiny made-up models, published where a run would put them."""

from dkd import storage
from dkd.report import collect, stored_cards
from dkd.report.model import (
    ArtifactRef,
    DatasetRef,
    GateCheck,
    Intervals,
    Provenance,
    RunResult,
    Scores,
    StepResult,
)
from dkd.storage import artifacts

PASSED = GateCheck(
    what="old classes lost on average", figure=1, limit=5, at_least=False, passed=True
)
FAILED = GateCheck(what="sheep", figure=12.3, limit=20, at_least=True, passed=False)
OPEN = GateCheck(
    what="sheep", figure=21, limit=20, at_least=True, passed=None, interval=(8.2, 33.1)
)


def artifact(root: str, place: str, kind: str, content: str) -> ArtifactRef:
    uri = storage.join(root, place)
    made = artifacts.publish(uri, {"x": content.encode()}, kind=kind, metadata={"run": ""})
    return ArtifactRef(uri=made.uri, digest=made.digest)


def finished(
    root: str,
    run: str,
    *classes: str,
    teacher: ArtifactRef | None = None,
    gate: tuple[GateCheck, ...] = (PASSED,),
    licence: str = "CC-BY-4.0",
) -> RunResult:
    """A finished run whose classes come one a step; with a teacher, of the last step alone."""
    steps = []
    for number in range(len(classes)):
        before = steps[-1].checkpoint if steps else None
        known = number + 2
        last = number == len(classes) - 1
        steps.append(
            StepResult(
                step=number,
                new_classes=classes[number : number + 1],
                images=40 + number,
                checkpoint=artifact(
                    root, f"checkpoints/{run}-{number}", "checkpoint", f"{run} {number}"
                ),
                teacher=teacher if last and teacher else before,
                chosen=artifact(root, f"memories/{run}-{number}", "memory", f"{run} {number}"),
                evaluation=artifact(
                    root, f"evaluations/{run}-{number}", "evaluation", f"{run} {number}"
                ),
                scores=Scores(
                    iou=(90.0, *(60.0 - 10 * number + k for k in range(known - 1))),
                    miou_all=70.0 - number,
                    intervals=Intervals(
                        iou=((85.0, 95.0),) * known, miou_all=(60.0, 75.0), images=(30, 9) * 4
                    ).model_copy(update={"images": (30, 9, 8, 7, 6)[:known]}),
                ),
                gate=gate if last else (),
            )
        )
    result = RunResult(
        scenario="street",
        variant="DKD",
        method="dkd",
        seed=1,
        task=tuple((name,) for name in classes),
        colours=((0, 0, 0),) * (1 + len(classes)),
        dataset=DatasetRef(name="streets", digest="d1" * 32, uri=storage.join(root, "datasets/d")),
        licence=licence,
        provenance=Provenance(versions={"dkd": "0"}, device="CPU, 1 ranks"),
        steps=tuple(steps if teacher is None else steps[-1:]),
    )
    collect.publish(result, root, run)
    stored_cards.write(result)
    return result
