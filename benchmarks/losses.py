"""The losses alone: time and peak memory, ours beside the naive form, at 20 to 1,000 classes.

    python -m benchmarks --only losses

One call is the forward and backward pass of all five terms, from logits at stride 16 back to
their gradients: a step > 0 with three quarters of the classes old, in the paper's protocol. The
naive form is :func:`benchmarks.plain_step.naive_loss`, differentiated by autograd. Each
measurement runs in a process of its own, for peak memory, on one CPU thread; both forms must agree
in value and gradients. More classes are measured with fewer images, or the naive form would not
fit; times are per image. A GPU, if there is one, gets 8 times the images.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks.memory import peak_since, reset_peak
from benchmarks.plain_step import naive_loss
from benchmarks.rows import CPU, GPU, Row
from dkd.data import channels
from dkd.losses import blockwise
from dkd.losses.terms import LossWeights
from dkd.network.deeplab import Output

GROUP = "losses"
IMAGES = {20: 4, 150: 2, 1000: 1}  # by number of classes
STRIDE = 16
POS_WEIGHT = 35.0


def inputs(classes: int, images: int, crop: int, device: str) -> tuple[Output, Output, Tensor]:
    """Student, teacher and labels, of the type that holds so many classes."""
    generator = torch.Generator().manual_seed(classes)
    side, old = crop // STRIDE, old_classes(classes)

    def made(count: int, grad: bool) -> Tensor:
        values = torch.randn(images, count, side, side, generator=generator)
        return (2 * values - 3).to(device).requires_grad_(grad)

    blocks = torch.randint(0, 1 + classes, (images, side, side), generator=generator)
    label = blocks.to(getattr(torch, channels.type_for(classes).name))
    label = label.repeat_interleave(STRIDE, 1).repeat_interleave(STRIDE, 2)
    label[:, :4] = channels.void_of(label)
    none = torch.zeros(images, 0, side, side, device=device)
    student = Output(none, made(1 + classes, True), made(old, True), made(old, True))
    teacher = Output(none, made(1 + old, False), made(old, False), made(old, False))
    return student, teacher, label.to(device)


def old_classes(classes: int) -> int:
    return 3 * classes // 4


def ours(student: Output, teacher: Output, label: Tensor) -> Tensor:
    old, classes = teacher.logits.shape[1], student.logits.shape[1]
    return blockwise.total(
        student,
        teacher,
        label,
        weights=LossWeights(),
        covers=range(old, classes),
        pos_weight=POS_WEIGHT,
        void_is_negative=True,
        fused=label.is_cuda,
    ).total


def naive(student: Output, teacher: Output, label: Tensor) -> Tensor:
    return naive_loss(student, teacher, label, POS_WEIGHT)


FORMS: dict[str, Callable[[Output, Output, Tensor], Tensor]] = {"naive": naive, "ours": ours}


def measure(form: str, classes: int, images: int, crop: int, repeats: int, device: str) -> dict:
    """Seconds of the fastest call, bytes at the peak above the inputs, and what came out."""

    # A CPU does other work too; on a GPU, reading the values waits for it.
    clock = time.perf_counter if device == "cuda" else time.process_time

    def call(student: Output, teacher: Output, label: Tensor) -> tuple[float, Tensor, float]:
        learned = (student.logits, student.positive, student.negative)
        started = clock()
        loss = FORMS[form](student, teacher, label)
        gradients = torch.autograd.grad(loss, learned)
        checksum = sum(
            float((g * torch.arange(g.shape[1]).to(g)[:, None, None]).sum()) for g in gradients
        )
        return clock() - started, loss.detach(), checksum

    # The same code once on little data: what libraries load and set up is not the losses'.
    call(*inputs(4, 1, 32, device))
    data = inputs(classes, images, crop, device)
    before = reset_peak(device)
    runs = [call(*data)]
    peak = peak_since(device, before)
    runs += [call(*data) for _ in range(repeats - 1)]
    seconds, loss, checksum = min(runs, key=lambda run: run[0])
    return {"seconds": seconds, "bytes": peak, "loss": float(loss), "gradients": checksum}


def measured_alone(*arguments: object) -> dict:
    child = [sys.executable, "-m", "benchmarks.losses", *map(str, arguments)]
    return json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)


def compare(device: str, quick: bool) -> list[Row]:
    found = []
    on = GPU if device == "cuda" else CPU
    for classes, images in {4: 1}.items() if quick else IMAGES.items():
        images *= 8 if device == "cuda" else 1
        crop = 32 if quick else 512
        # A GPU's memory is counted by PyTorch: no process of its own is needed.
        run = measure if quick or device == "cuda" else measured_alone
        result = {
            form: run(form, classes, images, crop, 1 if quick else 3, device) for form in FORMS
        }
        plain, fast = result["naive"], result["ours"]
        for key in ("loss", "gradients"):
            gap = abs(fast[key] - plain[key]) / abs(plain[key])
            assert gap < 1e-4, f"{classes} classes: {key} differ by {gap}"
        note = f"{images} crops of {crop}, forward and backward"
        found += [
            Row(
                GROUP,
                f"{classes} classes, time",
                "ms/image",
                1e3 * fast["seconds"] / images,
                device=on,
                baseline=1e3 * plain["seconds"] / images,
                limits="ratio",
                limit=3.0,
                predicted=5.0,
                note=note,
            ),
            Row(
                GROUP,
                f"{classes} classes, bytes at the peak",
                "MiB",
                fast["bytes"] / 2**20,
                device=on,
                baseline=plain["bytes"] / 2**20,
                limits="ratio",
                limit=2.0,
                predicted=20.0,
                note=note,
            ),
        ]
    return found


def rows(quick: bool, on: Sequence[str] = (CPU, GPU)) -> list[Row]:
    found = compare("cpu", quick) if CPU in on else []
    if GPU not in on:
        return found
    if torch.cuda.is_available():
        return found + compare("cuda", quick)
    return found + [
        Row(GROUP, f"{classes} classes, {what}", unit, device=GPU, limits="ratio", limit=limit,
            predicted=predicted)
        for classes in IMAGES
        for what, unit, limit, predicted in (
            ("time", "ms/image", 3.0, 3.0),
            ("bytes at the peak", "MiB", 2.0, 4.0),
        )
    ]  # fmt: skip


if __name__ == "__main__":
    form_, classes_, images_, crop_, repeats_, device_ = sys.argv[1:]
    torch.set_num_threads(1)
    numbers = (int(classes_), int(images_), int(crop_), int(repeats_))
    print(json.dumps(measure(form_, *numbers, device_)))
