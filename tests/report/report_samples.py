"""Made-up results that look like real ones, for the report's tests and for looking at it."""

import io

import numpy as np
from PIL import Image

from dkd.report.model import (
    ArtifactRef,
    Colour,
    Curve,
    DatasetRef,
    Prediction,
    Provenance,
    Reference,
    RunResult,
    Scores,
    ShownExemplar,
    StepResult,
)

# How much of a class is left per step after the one that learned it, and the trained quality.
KEEPS = {"finetune": 0.22, "DKD": 0.9, "DKD-M": 0.97, "joint": 1.0}
LEARNS = {"finetune": 74.0, "DKD": 68.0, "DKD-M": 71.0, "joint": 80.0}


def palette(count: int) -> tuple[Colour, ...]:
    """Colours of the VOC devkit's bit scheme."""
    colours = []
    for value in range(count):
        levels = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                levels[channel] |= (value >> (3 * bit + channel) & 1) << (7 - bit)
        colours.append((levels[0], levels[1], levels[2]))
    return tuple(colours)


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def scene(rng: np.random.Generator, classes: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """An image (uint8, side x side x 3) of three or four discs, and its labels."""
    rows, columns = np.mgrid[:side, :side]
    image = rng.integers(60, 110, (side, side, 3)).astype(np.uint8)
    labels = np.zeros((side, side), np.uint8)
    for _ in range(int(rng.integers(3, 5))):
        row, column = rng.integers(side // 6, 5 * side // 6, 2)
        radius = side * rng.uniform(0.1, 0.2)
        distance = np.hypot(rows - row, columns - column)
        label = int(rng.integers(1, classes + 1))
        inside = distance < radius
        tone = np.array(palette(classes + 1)[label]) * 0.5 + 90
        image[inside] = np.clip(tone + rng.normal(0, 14, (int(inside.sum()), 3)), 0, 255)
        labels[inside] = label
        labels[(distance >= radius) & (distance < radius + 1.5)] = 255
    return image, labels


def predicted(
    labels: np.ndarray, iou: tuple[float | None, ...], rng: np.random.Generator
) -> np.ndarray:
    """The labels, of which classes with a low IoU are eaten away."""
    result = np.where(labels == 255, 0, labels)
    noise = rng.random((labels.shape[0] // 4 + 1, labels.shape[1] // 4 + 1))
    noise = np.kron(noise, np.ones((4, 4)))[: labels.shape[0], : labels.shape[1]]
    for label in np.unique(labels):
        if label in (0, 255):
            continue
        kept = (iou[label] or 0.0) / 85 if label < len(iou) else 0.0
        result[(labels == label) & (noise > kept)] = 0
    return result.astype(np.uint8)


def run(
    variant: str = "DKD",
    task: tuple[tuple[str, ...], ...] = (("cat", "dog"), ("cow",), ("sheep",)),
    seed: int = 1,
    side: int = 32,
    images: int = 2,
    exemplars: int = 3,
) -> RunResult:
    """A whole run; the same arguments give the same result."""
    rng = np.random.default_rng([seed, len(variant)])
    names = tuple(name for step in task for name in step)
    joint = variant == "joint"
    steps = (names,) if joint else task
    scenes = [scene(np.random.default_rng(100 + i), len(names), side) for i in range(images)]
    results = []
    learned: dict[int, int] = {0: 0}
    base = rng.normal(0, 7, len(names) + 1)
    for step, new in enumerate(steps):
        for _ in new:
            learned[len(learned)] = step
        iou = tuple(scored(variant, c, step - at, base[c]) for c, at in learned.items())
        memory = variant == "DKD-M"
        results.append(
            StepResult(
                step=step,
                new_classes=new,
                images=480 if step == 0 else 160,
                checkpoint=reference("checkpoints", variant, step),
                teacher=reference("checkpoints", variant, step - 1) if step else None,
                memory=reference("memories", variant, step) if step and memory else None,
                origin="found" if step == 0 and variant != "finetune" and not joint else "trained",
                made_by="demo, variant finetune" if step == 0 and variant != "finetune" else "",
                seconds={"train": 41.0 + 7 * step, "evaluate": 2.5},
                curve=curve(rng, variant, step),
                confusion=confusion(iou),
                scores=scores(iou, len(task[0]), joint),
                exemplars=tuple(
                    exemplar(i, names[: len(learned) - 1], side) for i in range(exemplars)
                )
                if memory and step + 1 < len(steps)
                else (),
                predictions=tuple(
                    Prediction(id=f"image-{i}", labels=png(predicted(labels, iou, rng)))
                    for i, (_, labels) in enumerate(scenes)
                ),
            )
        )
    return RunResult(
        scenario="demo",
        variant=variant,
        method={"DKD-M": "dkd", "DKD": "dkd"}.get(variant, variant),
        setting="overlap",
        protocol="corrected",
        memory_size=exemplars if variant == "DKD-M" else 0,
        seed=seed,
        task=task,
        colours=palette(len(names) + 1),
        dataset=DatasetRef(name="digits", digest=digest("digits"), uri="s3://dkd/datasets/1"),
        configuration="name: demo\ndata: {format: digits}\nmethod: dkd\nseed: 1\n",
        provenance=Provenance(
            versions={"dkd": "0.1.0", "torch": "2.15.0", "python": "3.11.7"},
            device="CPU, 2 processes",
            started="2026-10-20T09:00:00Z",
            finished="2026-10-20T09:04:31Z",
            seconds={"data": 3.0},
        ),
        steps=tuple(results),
        references=tuple(
            Reference(id=f"image-{i}", image=png(image), truth=png(labels))
            for i, (image, labels) in enumerate(scenes)
        ),
    )


def scored_run(
    variant: str,
    iou_by_step: list[list[float | None]],
    task: tuple[tuple[str, ...], ...] = (("cat",), ("cow",)),
    seed: int = 1,
    **totals: float | None,
) -> RunResult:
    """A bare run with given IoUs; ``totals`` are the last step's other scores."""
    classes = sum(len(names) for names in task)
    last = len(iou_by_step) - 1
    names = tuple(name for new in task for name in new)
    return RunResult(
        scenario="bare",
        variant=variant,
        method="joint" if variant == "joint" else "dkd",
        seed=seed,
        task=task,
        colours=palette(1 + classes),
        dataset=DatasetRef(name="bare", digest="0" * 64),
        steps=tuple(
            StepResult(
                step=step,
                new_classes=names if variant == "joint" else task[step],
                scores=Scores(iou=tuple(iou), **(totals if step == last else {})),
            )
            for step, iou in enumerate(iou_by_step)
        ),
    )


def scored(variant: str, channel: int, age: int, offset: float) -> float:
    if channel == 0:
        return 91.0 - 0.5 * age
    return float(np.clip((LEARNS[variant] + offset) * KEEPS[variant] ** age, 0, 100))


def scores(iou: tuple[float, ...], first: int, joint: bool) -> Scores:
    old = float(np.mean(iou[: first + 1]))
    new = float(np.mean(iou[first + 1 :])) if len(iou) > first + 1 else None
    return Scores(
        iou=iou,
        miou_all=float(np.mean(iou)),
        miou_old=old,
        miou_new=new,
        hiou=2 * old * new / (old + new) if new else None,
        pixel_accuracy=88.0 + float(np.mean(iou)) / 10,
    )


def confusion(iou: tuple[float, ...]) -> tuple[tuple[int, ...], ...]:
    count = len(iou)
    matrix = np.zeros((count, count), np.int64)
    for row, value in enumerate(iou):
        right = round(100 * value)
        matrix[row, row] = right
        matrix[row, 0 if row else 1] += (10000 - right) * 2 // 3
        matrix[row, (row + 1) % count] += (10000 - right) // 3
    return tuple(tuple(int(v) for v in row) for row in matrix)


def curve(rng: np.random.Generator, variant: str, step: int) -> Curve:
    iterations = list(range(1, 401))
    fall = np.exp(-np.arange(400) / 90)
    terms = {"mbce": 0.08 + 0.9 * fall}
    if variant != "finetune" or step == 0:
        terms["ac"] = 0.03 + 0.2 * fall
    if variant.startswith("DKD") and step:
        terms["kd"] = 0.2 + 0.05 * fall
        terms["dkd_pos"] = 0.32 + 0.1 * fall
        terms["dkd_neg"] = 0.26 + 0.02 * fall
    noisy = {k: (v * rng.lognormal(0, 0.12, 400)).tolist() for k, v in terms.items()}
    noisy["total"] = np.sum(list(noisy.values()), axis=0).tolist()
    return Curve.of(iterations, noisy, most=80)


def exemplar(number: int, names: tuple[str, ...], side: int) -> ShownExemplar:
    image, labels = scene(np.random.default_rng(500 + number), len(names), side)
    present = [int(v) for v in np.unique(labels) if v not in (0, 255)]
    return ShownExemplar(
        id=f"train-{number:04d}",
        thumbnail=png(image),
        classes=tuple(names[value - 1] for value in present),
    )


def reference(kind: str, variant: str, step: int) -> ArtifactRef:
    key = digest(f"{kind} {variant} {step}")
    return ArtifactRef(uri=f"s3://dkd/{kind}/{key[:16]}", digest=key)


def digest(text: str) -> str:
    return np.random.default_rng(list(text.encode())).bytes(32).hex()


def dkd_run(seed: int = 1, overall: float = 60.0) -> RunResult:
    run = scored_run(
        "DKD",
        [[90, 70], [88, 50, 45]],
        seed=seed,
        miou_old=69,
        miou_new=45,
        miou_all=overall,
        hiou=54.47,
    )
    first = run.steps[0]
    first = first.model_copy(update={"scores": first.scores.model_copy(update={"miou_all": 80})})
    return run.model_copy(update={"steps": (first, run.steps[1])})


def joint_run() -> RunResult:
    return scored_run("joint", [[92, 80, 75]], miou_old=86, miou_new=75, miou_all=82.33)
