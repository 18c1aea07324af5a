"""The baseline of the training step: what one would write down first.

Eager PyTorch in the default memory format; fp16 autocast with loss scaling on a GPU (float32 on
a CPU); the losses as the definition has them, targets and logits at full resolution; batch
normalisation as a layer of its own; the default optimiser; no host synchronisation either, so
that it is the computation that is compared.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.cases import Case, Size, models
from dkd.network.deeplab import Output
from dkd.scenario.tasks import VOID


class PlainStep:
    """Student, teacher and optimiser of a step > 0.

    Args:
        case: which step.
        size: how large.
        device: where.
    """

    def __init__(self, case: Case, size: Size, device: str) -> None:
        teacher, student = models(case, size)
        self.case = case
        self.teacher = teacher.to(device).eval().requires_grad_(False)
        self.student = student.to(device).train()
        self.gpu = device == "cuda"
        heads = [*self.student.aspp.parameters(), *self.student.cls.parameters()]
        groups = [
            {"params": [p for p in self.student.backbone.parameters() if p.requires_grad]},
            {"params": [p for p in heads if p.requires_grad], "lr": 1e-6},
        ]
        self.optimiser = torch.optim.SGD(groups, lr=1e-7, momentum=0.9, nesterov=True)
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.gpu)

    def train_step(self, batch: dict[str, Tensor]) -> Tensor:
        """One iteration; the loss, on the device."""
        old = self.case.old
        with torch.autocast("cuda", torch.float16, enabled=self.gpu):
            student = self.student(batch["image"], old)
            with torch.no_grad():
                teacher = self.teacher(batch["image"], old)
        loss = naive_loss(student, teacher, batch["label"], self.case.pos_weight)
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return loss.detach()


def naive_loss(student: Output, teacher: Output, label: Tensor, pos_weight: float) -> Tensor:
    """The five terms in the paper's protocol, word by word.

    Args:
        student: its logits for 1 + K channels.
        teacher: its logits for 1 + D channels, the D old classes'.
        label: N x H x W channel numbers; void is a negative here.
        pos_weight: of the mBCE.
    """

    def bce(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        each = F.binary_cross_entropy_with_logits(
            logits, target, pos_weight=weight, reduction="none"
        )
        return each.mean((0, 2, 3)).sum()

    def enlarged(logits: Tensor) -> Tensor:
        size = (label.shape[-2], label.shape[-1])
        return F.interpolate(logits, size, mode="bilinear", align_corners=False)

    x, t = enlarged(student.logits), enlarged(teacher.logits)
    old, classes = t.shape[1], x.shape[1]
    # Void is a negative here: it is no class, even where there are more than 254.
    number = torch.where(label == VOID, 0, label.long())
    target = torch.stack([number == k for k in range(old, classes)], dim=1).to(x.dtype)
    weight = torch.full((classes - old, 1, 1), pos_weight, device=x.device)
    return (
        bce(x[:, old:], target, weight)
        + 5 * bce(x[:, 1:old], t[:, 1:].sigmoid())
        + 5 * bce(student.positive, teacher.positive.sigmoid())
        + 5 * bce(student.negative, teacher.negative.sigmoid())
        + bce(x[:, :1], torch.zeros_like(x[:, :1]))
    )
