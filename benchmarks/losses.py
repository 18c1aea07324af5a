"""The losses alone: time and peak memory, ours beside the naive form, at 20 to 1,000 classes.

    python benchmarks/losses.py [--json losses.json] [--crop 512] [--repeats 3]

One call is the forward and backward pass of all five terms, from logits at stride 16 back to
their gradients: a step > 0 with three quarters of the classes old, in the paper's protocol. The
naive form is the definition word by word in PyTorch: logits upsampled, targets written out,
``binary_cross_entropy_with_logits``, autograd. Each measurement runs in a process of its own,
for peak memory, on one CPU thread; both forms must agree in value and gradients. More classes
are measured with fewer images, or the naive form would not fit; times are per image. A GPU, if
there is one, gets 8 times the images.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from dkd import losses
from dkd.methods import LossWeights
from dkd.network.deeplab import Output

IMAGES = {20: 4, 150: 2, 1000: 1}  # by number of classes
STRIDE = 16
POS_WEIGHT = 35.0


def inputs(classes: int, images: int, crop: int, device: str) -> tuple[Output, Output, Tensor]:
    """Student, teacher and labels; beyond 254 classes these are wider, and 255 is still void."""
    generator = torch.Generator().manual_seed(classes)
    side, old = crop // STRIDE, old_classes(classes)

    def made(channels: int, grad: bool) -> Tensor:
        values = torch.randn(images, channels, side, side, generator=generator)
        return (2 * values - 3).to(device).requires_grad_(grad)

    blocks = torch.randint(0, 1 + classes, (images, side, side), generator=generator)
    label = blocks.to(torch.uint8 if classes < losses.VOID else torch.int16)
    label = label.repeat_interleave(STRIDE, 1).repeat_interleave(STRIDE, 2)
    label[label == losses.VOID] = 0
    label[:, :4] = losses.VOID
    none = torch.zeros(images, 0, side, side, device=device)
    student = Output(none, made(1 + classes, True), made(old, True), made(old, True))
    teacher = Output(none, made(1 + old, False), made(old, False), made(old, False))
    return student, teacher, label.to(device)


def old_classes(classes: int) -> int:
    return 3 * classes // 4


def ours(student: Output, teacher: Output, label: Tensor) -> Tensor:
    old, classes = teacher.logits.shape[1], student.logits.shape[1]
    return losses.total(
        student,
        teacher,
        label,
        weights=LossWeights(),
        covers=range(old, classes),
        pos_weight=POS_WEIGHT,
        void_is_negative=True,
    ).total


def naive(student: Output, teacher: Output, label: Tensor) -> Tensor:
    def bce(logits: Tensor, target: Tensor, pos_weight: Tensor | None = None) -> Tensor:
        each = F.binary_cross_entropy_with_logits(
            logits, target, pos_weight=pos_weight, reduction="none"
        )
        return each.mean((0, 2, 3)).sum()

    def upsample(logits: Tensor) -> Tensor:
        return F.interpolate(logits, label.shape[1:], mode="bilinear", align_corners=False)

    x, t = upsample(student.logits), upsample(teacher.logits)
    old, classes = t.shape[1], x.shape[1]
    # Void is a negative here: it is no class, even where there are more than 254.
    number = torch.where(label == losses.VOID, 0, label.long())
    target = torch.stack([number == k for k in range(old, classes)], dim=1).to(x.dtype)
    weight = torch.full((classes - old, 1, 1), POS_WEIGHT, device=x.device)
    return (
        bce(x[:, old:], target, weight)
        + 5 * bce(x[:, 1:old], t[:, 1:].sigmoid())
        + 5 * bce(student.positive, teacher.positive.sigmoid())
        + 5 * bce(student.negative, teacher.negative.sigmoid())
        + bce(x[:, :1], torch.zeros_like(x[:, :1]))
    )


FORMS: dict[str, Callable[[Output, Output, Tensor], Tensor]] = {"naive": naive, "ours": ours}


def measure(form: str, classes: int, images: int, crop: int, repeats: int, device: str) -> dict:
    """Seconds of the fastest call, bytes at the peak above the inputs, and what came out."""

    def call(student: Output, teacher: Output, label: Tensor) -> tuple[float, Tensor, float]:
        learned = (student.logits, student.positive, student.negative)
        started = time.perf_counter()
        loss = FORMS[form](student, teacher, label)
        gradients = torch.autograd.grad(loss, learned)
        checksum = sum(
            float((g * torch.arange(g.shape[1]).to(g)[:, None, None]).sum()) for g in gradients
        )
        return time.perf_counter() - started, loss.detach(), checksum

    # The same code once on little data: what libraries load and set up is not the losses'.
    call(*inputs(4, 1, 32, device))
    data = inputs(classes, images, crop, device)
    before = reset_peak(device)
    runs = [call(*data)]
    peak = read_peak(device) - before
    runs += [call(*data) for _ in range(repeats - 1)]
    seconds, loss, checksum = min(runs, key=lambda run: run[0])
    return {"seconds": seconds, "bytes": peak, "loss": float(loss), "gradients": checksum}


def reset_peak(device: str) -> int:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak of resident memory to now
    return read_peak(device)


def read_peak(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) * 1024


def measured_alone(*arguments: object) -> dict:
    child = [sys.executable, __file__, "--child", *map(str, arguments)]
    return json.loads(subprocess.run(child, check=True, capture_output=True, text=True).stdout)


def compare(crop: int, repeats: int, device: str) -> list[dict]:
    rows = []
    for classes, images in IMAGES.items():
        images *= 8 if device == "cuda" else 1
        result = {
            form: measured_alone(form, classes, images, crop, repeats, device) for form in FORMS
        }
        plain, fast = result["naive"], result["ours"]
        for key in ("loss", "gradients"):
            gap = abs(fast[key] - plain[key]) / abs(plain[key])
            assert gap < 1e-4, f"{classes} classes: {key} differ by {gap}"
        rows.append(
            {
                "device": device,
                "images": images,
                "crop": crop,
                "classes": classes,
                "naive_ms": 1e3 * plain["seconds"] / images,
                "ours_ms": 1e3 * fast["seconds"] / images,
                "time_ratio": plain["seconds"] / fast["seconds"],
                "naive_mib": plain["bytes"] / 2**20,
                "ours_mib": fast["bytes"] / 2**20,
                "bytes_ratio": plain["bytes"] / fast["bytes"],
            }
        )
    return rows


def table(rows: list[dict]) -> str:
    lines = [
        "| device | images x crop | classes | naive ms/image | ours ms/image | ratio "
        "| naive peak MiB | ours peak MiB | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['device']} | {r['images']} x {r['crop']} | {r['classes']} | {r['naive_ms']:.1f} "
        f"| {r['ours_ms']:.1f} | {r['time_ratio']:.1f} | {r['naive_mib']:.0f} "
        f"| {r['ours_mib']:.0f} | {r['bytes_ratio']:.1f} |"
        for r in rows
    ]
    if not any(r["device"] == "cuda" for r in rows):
        lines.append("| cuda | - | - | not measured | | | | | |")
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        form, classes, images, crop, repeats, device = sys.argv[2:]
        torch.set_num_threads(1)
        print(json.dumps(measure(form, int(classes), int(images), int(crop), int(repeats), device)))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--crop", type=int, default=512, help="side of the crops (512)")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    rows = compare(given.crop, given.repeats, "cpu")
    if torch.cuda.is_available():
        rows += compare(given.crop, given.repeats, "cuda")
    print(table(rows))
    if given.json:
        given.json.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
