"""Bytes: what is measured at the peak, and what a GPU would need, on paper.

    python -m benchmarks --only memory

What autograd keeps for the backward pass is counted exactly, tensor by tensor, without doing the
arithmetic (meta tensors). With what is known of the rest, that gives the peak of an iteration
under bf16 autocast; the largest batches that follow are predictions, not measurements.
"""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.cases import CASES, Case, Size, models
from benchmarks.plain_step import naive_loss
from benchmarks.rows import CPU, GPU, Row
from dkd.network.deeplab import Output, SegmentationModel
from dkd.network.folding import fold_student

GROUP = "memory"
LIMIT = 1 / 0.6
CARDS = (24, 80, 141)  # GB
# What the CUDA context, the libraries' workspaces and gaps between allocations take, in bytes.
RESERVED = 1.5e9
# The context alone: PyTorch counts the rest.
CONTEXT = 0.6e9
# Blocks of 256 MiB that the losses have at a time (logits, sigmoid, comparison, two products).
BLOCKS = 5 * 2**28


def reset_peak(device: str) -> int:
    """Starts to look for a peak; bytes that there are now."""
    if device == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_reserved()
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak of resident memory to now
    return peak_since(device, 0)


def peak_since(device: str, base: int) -> int:
    """Bytes at the peak above the base."""
    if device == "cuda":
        # Reserved, not allocated: what recordings keep for their next time counts too.
        return torch.cuda.max_memory_reserved() - base
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) * 1024 - base


class Kept:
    """Counts the storages that autograd keeps, each once."""

    def __init__(self, but: SegmentationModel) -> None:
        self.others = {t.untyped_storage()._cdata for t in (*but.parameters(), *but.buffers())}
        self.found: dict[int, Tensor] = {}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._note, lambda tensor: tensor)

    def _note(self, tensor: Tensor) -> Tensor:
        self.found[tensor.untyped_storage()._cdata] = tensor
        return tensor

    def __enter__(self) -> "Kept":
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)

    @property
    def bytes(self) -> int:
        return sum(
            tensor.untyped_storage().nbytes()
            for key, tensor in self.found.items()
            if key not in self.others
        )


def kept_by_network(case: Case, size: Size, images: int, folded: bool, dtype: torch.dtype) -> int:
    """Bytes that a student's forward pass keeps for its backward pass."""
    with torch.device("meta"):
        _, student = models(case, size)
        if folded:
            fold_student(student)
        student = student.to(dtype).train()
        crops = torch.empty(images, 3, size.crop, size.crop, dtype=dtype)
    with Kept(student) as kept:
        student.features(crops)
    return kept.bytes


def kept_by_naive_losses(case: Case, size: Size, images: int) -> int:
    """Bytes that the losses keep when targets and logits are written out."""
    side, old = size.crop // 16, case.old
    with torch.device("meta"):
        channels = 1 + old + case.new
        student = Output(
            torch.empty(0),
            torch.empty(images, channels, side, side, requires_grad=True),
            *(torch.empty(images, old, side, side, requires_grad=True) for _ in range(2)),
        )
        teacher = Output(
            torch.empty(0),
            torch.empty(images, 1 + old, side, side),
            *(torch.empty(images, old, side, side) for _ in range(2)),
        )
        label = torch.empty(images, size.crop, size.crop, dtype=torch.uint8)
    with torch.device("meta"):
        nothing = SegmentationModel.__new__(SegmentationModel)
        torch.nn.Module.__init__(nothing)
    with Kept(nothing) as kept:
        naive_loss(student, teacher, label, case.pos_weight)
    return kept.bytes


@dataclass(frozen=True)
class Peak:
    """Bytes of an iteration: ``fixed + images * each``."""

    fixed: float
    each: float

    def of(self, images: int) -> float:
        return self.fixed + images * self.each

    def largest(self, gigabytes: float) -> int:
        return int((gigabytes * 1e9 - RESERVED - self.fixed) // self.each)


def predicted(case: Case, size: Size, ours: bool) -> Peak:
    """The peak on a GPU under 16-bit autocast, at the end of the forward pass."""
    with torch.device("meta"):
        teacher, student = models(case, size)
    weights = sum(p.numel() for p in student.parameters())
    of_teacher = sum(p.numel() for p in teacher.parameters())
    one, two = (kept_by_network(case, size, n, ours, torch.bfloat16) for n in (1, 2))
    each: float = two - one
    # Weights, gradients and momenta in float32, and the copies in 16 bits that autocast makes.
    fixed = 12 * weights + 2 * weights + (one - each)
    if ours:
        fixed += 2 * of_teacher + BLOCKS
    else:
        fixed += 4 * of_teacher
        full = 4 * (1 + case.old + case.new) * size.crop**2
        # Beside what is kept, the gradient of the logits as it is gathered from its slices.
        each += kept_by_naive_losses(case, size, 1) + 2 * full
    return Peak(fixed, each)


def largest(case: Case, card: int) -> str:
    """The name of a row."""
    return f"{case.name}, largest batch on {card} GB"


def rows(quick: bool, on: Sequence[str] = (CPU, GPU)) -> list[Row]:
    if CPU not in on:
        return []
    found = []
    for case in CASES.values():
        size = Size("demo", 64, 4, 16) if quick else Size("resnet101", 512, case.batch)
        one, other = (
            kept_by_network(case, size, 2, folded, torch.bfloat16)
            - kept_by_network(case, size, 1, folded, torch.bfloat16)
            for folded in (True, False)
        )
        found.append(
            Row(
                GROUP,
                f"{case.name}, kept by the network for the backward pass",
                "MiB/image",
                one / 2**20,
                baseline=other / 2**20,
                note=f"counted, {size.backbone}, crops of {size.crop}, bf16, folded or not",
            )
        )
        ours, plain = (predicted(case, size, which) for which in (True, False))
        found += [
            Row(
                GROUP,
                largest(case, card),
                "images",
                device=GPU,
                predicted=ours.largest(card),
                better="more",
                note=f"a prediction; the plain step: {max(0, plain.largest(card))}",
            )
            for card in CARDS
        ]
    return found
