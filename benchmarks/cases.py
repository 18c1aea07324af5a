"""The steps that are measured: VOC 15-1 and ADE20K 100-10, step 1, in the paper's protocol."""

import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models.resnet import BasicBlock, Bottleneck

from dkd.data import labels
from dkd.data.index import Dataset
from dkd.data.loading import Source, StepImages
from dkd.data.records import Record
from dkd.methods import DKD
from dkd.methods.base import Circumstances
from dkd.network.deeplab import SegmentationModel, build, freeze_for_later_step, grow
from dkd.network.normalisation import synchronise
from dkd.network.speed import decided
from dkd.scenario.network import Network
from dkd.scenario.schema import parse
from dkd.scenario.tasks import Task
from dkd.steps.step import Step, StepSpec
from dkd.training.loop import Trainer
from dkd.training.ranks import Ranks

PHOTOGRAPHS = Path(__file__).parents[2] / "shared" / "voc_subset"
"""Real photographs beside the checkout, where there are some (VOC's layout)."""


@dataclass(frozen=True)
class Case:
    """A step > 0.

    Attributes:
        name: for people.
        old: classes of the teacher.
        new: classes that are added.
        batch: images of an iteration, all ranks together.
        pos_weight: of the mBCE at this step.
    """

    name: str
    old: int
    new: int
    batch: int
    pos_weight: float


CASES = {
    "voc": Case("VOC 15-1 step 1", old=15, new=1, batch=32, pos_weight=1.0),
    "ade": Case("ADE20K 100-10 step 1", old=100, new=10, batch=24, pos_weight=35.0),
}


@dataclass(frozen=True)
class Size:
    """How large a step is measured: the published size on a GPU, a smaller one on a CPU."""

    backbone: str
    crop: int
    batch: int
    aspp_channels: int = 256

    def told(self) -> str:
        return f"{self.backbone}, {self.batch} crops of {self.crop}"


PLAIN: dict[str, Any] = {
    "channels_last": False,
    "fold_norms": False,
    "triton_pooling": False,
    "unshuffled_stem": False,
    "recorded": False,
    "block_losses": False,
    "triton_losses": False,
    "fused_optimiser": False,
    "device_transforms": False,
    "prefetch": False,
}
"""Every means off."""


def models(case: Case, size: Size) -> tuple[SegmentationModel, SegmentationModel]:
    """Teacher and student, the same every time, with statistics of what they are given.

    Without these, and with blocks that add as much as they get, random weights blow up over a
    hundred layers, and arithmetic on infinities is no measure of anything.
    """
    if torch.empty(0).device.type == "meta":
        return _made(case, size)
    return copy.deepcopy(_cached(case, size))


def _made(case: Case, size: Size) -> tuple[SegmentationModel, SegmentationModel]:
    torch.manual_seed(1)
    teacher = build(Network(backbone=size.backbone, aspp_channels=size.aspp_channels), [case.old])
    if next(teacher.parameters()).device.type != "meta":
        for block in teacher.modules():
            if isinstance(block, (BasicBlock, Bottleneck)):
                torch.nn.init.constant_(getattr(block, "bn3", block.bn2).weight, 0.2)
        norms = [m for m in teacher.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        usual = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0
        with torch.no_grad():
            teacher(torch.randn(4, 3, 64, 64))
        for norm, momentum in zip(norms, usual, strict=True):
            norm.momentum = momentum
    student = grow(teacher, case.new)
    freeze_for_later_step(student)
    return teacher, student


_cached = cache(_made)


def trainer(
    case: Case,
    size: Size,
    speed: dict[str, Any],
    *,
    ranks: Ranks,
    number: int = 1,
    precision: str = "bf16",
    lr: float = 1e-7,
) -> Trainer:
    """The real training loop of a step, without its data.

    Args:
        case: which step.
        size: how large.
        speed: switches.
        ranks: this process's place.
        number: 1, or 0 for the step before it.
        precision: on a GPU.
        lr: of the backbone; random weights diverge at usual rates.
    """
    names = tuple(f"class {k}" for k in range(1, 1 + case.old + case.new))
    scenario = parse(
        {
            "name": "benchmark",
            "data": {"format": "folder", "root": "none"},
            "task": [names[: case.old], names[case.old :]],
            "method": "dkd",
            "protocol": "paper",
            "network": {"backbone": size.backbone, "aspp_channels": size.aspp_channels},
            "training": {
                "epochs": {"first": 1000, "later": 1000},
                "batch_size": size.batch,
                "crop": size.crop,
                "lr": {"first": lr, "later": lr},
                "pos_weight": {"first": 2, "later": case.pos_weight},
                "precision": precision,
            },
            "speed": speed,
        },
        source="benchmark",
    )
    task = Task((names[: case.old], names[case.old :]))
    records = tuple(
        Record(str(k), "", "", size.crop, size.crop, (1 + case.old,), str(k))
        for k in range(size.batch)
    )
    dataset = Dataset(
        name="benchmark",
        format="folder",
        root="none",
        classes=dict(enumerate(names, start=1)),
        palette={},
        future_is_void=False,
        splits={"train": records, "validation": ()},
    )
    spec = StepSpec(scenario=scenario, task=task.steps, step=number, dataset="", root="")
    teacher, student = models(case, size)
    if number == 0:
        student, teacher = teacher, None  # type: ignore[assignment]
        if ranks.world_size > 1:
            synchronise(student.to(ranks.device))
    images = StepImages(
        [
            Source(
                records,
                Path("none"),
                labels.training_table(dataset, task, number),
                labels.covered(task, number, len(records)),
            )
        ],
        size.crop,
        seed=1,
    )
    given = Circumstances(
        scenario,
        number,
        images_differ=False,
        speed=decided(scenario.speed, ranks.device.type == "cuda"),
        average=ranks.average,
        gather=ranks.gather,
    )
    method = DKD(student, teacher, given)
    return Trainer(Step(spec, dataset, None, None), method, images, ranks, say=_silent)


def batch(
    case: Case, size: Size, images: int, device: torch.device, step: int = 1
) -> dict[str, Tensor]:
    """Random images with labels in blocks: the step's classes, background and some void."""
    generator = torch.Generator().manual_seed(2)
    first = 1 + case.old if step else 1
    classes = case.old + case.new if step else case.old
    blocks = torch.randint(
        first - 1, 1 + classes, (images, size.crop // 16, size.crop // 16), generator=generator
    )
    blocks[blocks == first - 1] = 0
    label = blocks.to(torch.uint8).repeat_interleave(16, 1).repeat_interleave(16, 2)
    label[:, :2] = 255
    return {
        "image": torch.randn(images, 3, size.crop, size.crop, generator=generator).to(device),
        "label": label.to(device),
        "covered": torch.ones(images, classes, dtype=torch.bool, device=device),
    }


def alone(device: str) -> Ranks:
    return Ranks(0, 1, 0, torch.device(device), None)


def _silent(_line: str) -> None:
    pass
