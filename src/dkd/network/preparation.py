"""Making models ready to compute fast, those that learn and those that do not."""

import gc
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from dkd.network.backbones import ResNetFeatures, Stem
from dkd.network.deeplab import SegmentationModel
from dkd.network.folding import fold_student, fold_teacher
from dkd.scenario.speed import Speed


def prepare_student(model: SegmentationModel, speed: Speed) -> SegmentationModel:
    """The model in training mode, changed in place; its parameters stay the same objects.

    Args:
        model: on its device; already frozen if the step is a later one.
        speed: decided switches.
    """
    _prepare_stem(model, speed, frozen=model.statistics_frozen)
    if speed.fold_norms and model.statistics_frozen:
        fold_student(model, but=_done_by_kernel(model))
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
    _prepare_stem(model, speed, frozen=True)
    if speed.fold_norms:
        fold_teacher(model, but=_done_by_kernel(model))
    if autocast_type is not None:
        # Once, instead of a copy of every weight at every iteration. The heads stay wide.
        for module in (*model.backbone.modules(), *model.aspp.modules()):
            if isinstance(module, nn.Conv2d):
                module.weight.data = module.weight.to(autocast_type)
    return _laid_out(model, speed)


def prepare_images(
    images: Tensor, model: SegmentationModel, speed: Speed, kind: torch.dtype | None = None
) -> Tensor:
    """Images as a prepared model takes them, so that several models need not each convert them.

    Args:
        images: ``N x 3 x H x W``.
        model: prepared.
        speed: decided switches.
        kind: what it computes in; None is the images' own type.
    """
    if getattr(getattr(model.backbone, "conv1", None), "unshuffled", False):
        return Stem.unshuffle(model.normalised(images), kind)
    return images.to(kind or images.dtype, memory_format=_layout(speed))


def _laid_out(model: SegmentationModel, speed: Speed) -> SegmentationModel:
    # Not the heads: their features' layout decides, and their gradients come in the usual one.
    for part in (model.backbone, model.aspp):
        part.to(memory_format=_layout(speed))
    return model


def _prepare_stem(model: SegmentationModel, speed: Speed, frozen: bool) -> None:
    backbone = model.backbone
    if isinstance(backbone, ResNetFeatures):
        cast(Stem, backbone.conv1).unshuffled = bool(speed.unshuffled_stem)
        backbone.pooled_by_kernel = bool(speed.triton_pooling) and frozen


def _done_by_kernel(model: SegmentationModel) -> list[nn.Module]:
    """Normalisations that need no folding."""
    backbone = model.backbone
    pooled = isinstance(backbone, ResNetFeatures) and backbone.pooled_by_kernel
    return [cast(nn.Module, backbone.bn1)] if pooled else []


def _layout(speed: Speed) -> torch.memory_format:
    return torch.channels_last if speed.channels_last else torch.contiguous_format


def record(models: Sequence[SegmentationModel], images: Tensor) -> None:
    """Records the passes of models and plays the recordings from now on (CUDA graphs), in place.

    An iteration is some 1,500 kernels, which many a host starts more slowly than a GPU is through
    with them. Backbone and ASPP are recorded one by one, so that ASPP's gradients are on their way
    to other ranks while the backbone's are computed. Memory for what a pass keeps is kept for good.

    Args:
        models: prepared, none with statistics that still change; in the order in which they are
            called. Under autocast, it must not cache.
        images: as they will come, in shape, type and layout.
    """
    gc.collect()  # no other recording may be freed while this one is made
    parts: list[nn.Module] = []
    samples: list[tuple[Tensor]] = []
    for model in models:
        with torch.no_grad():
            features = model.backbone(images)
        learns = any(parameter.requires_grad for parameter in model.aspp.parameters())
        parts += [model.backbone, model.aspp]
        samples += [(images.clone(),), (features.requires_grad_(learns),)]
    # Gradients are added up on a stream of the recording's; what follows waits for it by itself.
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    torch.cuda.make_graphed_callables(tuple(parts), tuple(samples))
