"""Small models whose normalisation has statistics of its own."""

import torch

from dkd.network.deeplab import SegmentationModel, build, freeze_for_later_step, grow
from dkd.scenario.network import Network


def model_of(backbone: str) -> SegmentationModel:
    """With statistics that are not 0 and 1, or folding would do nothing."""
    model = build(Network(backbone=backbone, aspp_channels=16), [2])
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.6, 1.2)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    return model


def later(backbone: str) -> tuple[SegmentationModel, SegmentationModel]:
    teacher = model_of(backbone)
    student = grow(teacher, 2)
    freeze_for_later_step(student)
    return teacher, student.train()
