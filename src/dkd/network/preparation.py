"""Making models ready to compute fast, those that learn and those that do not."""

import os

import torch

from dkd.network.deeplab import SegmentationModel
from dkd.network.folding import fold_student, fold_teacher
from dkd.places import cache_folder
from dkd.scenario import Speed


def prepare_student(model: SegmentationModel, speed: Speed) -> SegmentationModel:
    """The model in training mode, changed in place; its parameters stay the same objects.

    Args:
        model: on its device; already frozen if the step is a later one.
        speed: decided switches.
    """
    if speed.fold_norms and model.statistics_frozen:
        fold_student(model)
    return _laid_out(model.train(), speed)


def prepare_frozen(
    model: SegmentationModel, speed: Speed, autocast_type: torch.dtype | None = None
) -> SegmentationModel:
    """The model in eval mode without gradients, changed in place: no checkpoint's any more.

    Args:
        model: on its device.
        speed: decided switches.
        autocast_type: what it will compute in; None is its own type.
    """
    model.eval().requires_grad_(False)
    if speed.fold_norms:
        fold_teacher(model)
        if autocast_type is not None:
            # Once, instead of a copy of every weight at every iteration. The heads stay wide.
            model.backbone.to(autocast_type)
            model.aspp.to(autocast_type)
    return _laid_out(model, speed)


def layout(speed: Speed) -> torch.memory_format:
    """How activations lie in memory."""
    return torch.channels_last if speed.channels_last else torch.contiguous_format


def _laid_out(model: SegmentationModel, speed: Speed) -> SegmentationModel:
    model = model.to(memory_format=layout(speed))
    if speed.compile:
        # Kept between processes: a later step's job finds what an earlier one compiled. The
        # heads, which differ from step to step, are not part of it.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "compiled"))
        # Stage by stage, so that gradients of the last are on their way to other ranks while
        # those of the first are still computed.
        for stage in (*model.backbone.children(), model.aspp):
            if any(True for _ in stage.children()):
                stage.compile(dynamic=False)
    return model
