"""Means that make a scenario's steps fast."""

from typing import Annotated

from pydantic import Field

from dkd.scenario.strict_model import StrictModel


class Speed(StrictModel):
    """Means that make a step fast and change its result in rounding alone: no part of any key.

    Each can be turned off, and then the plain way is taken. What is null is decided by the
    device: true on a GPU, false on a CPU, where defaults give the plain way's very bits. Triton's
    kernels are false too where they cannot be compiled.

    Attributes:
        channels_last: weights and activations have their channels innermost, as tensor cores
            take them. Dropout (step 0) then drops other features, as another seed would.
        fold_norms: convolutions do the work of frozen batch normalisation, teacher's and
            student's, and of the residual sum and the ReLU behind it.
        unshuffled_stem: a ResNet's first convolution of 3 channels as one of 12.
        block_losses: losses block by block with nothing kept at full resolution, instead of
            targets written out. True by default everywhere.
        triton_losses: with ``block_losses``, one kernel for all blocks; nothing on a CPU.
        triton_pooling: one kernel for a ResNet's first normalisation, where it is frozen, with
            its ReLU and pooling; nothing on a CPU.
        fused_optimiser: one kernel for many parameters.
        recorded: the passes of steps > 0 are recorded once and played (CUDA graphs); nothing on
            a CPU.
        device_transforms: loader workers only decode; the device resizes and normalises whole
            batches.
        prefetch: the next batch is copied and finished beside the computation, on a stream of
            its own; nothing on a CPU, which has no streams.
        evaluation_batch: most images of one size that are scored together; null is 16 on a GPU
            and 1 on a CPU.
    """

    channels_last: bool | None = None
    fold_norms: bool | None = None
    unshuffled_stem: bool | None = None
    block_losses: bool = True
    triton_losses: bool | None = None
    triton_pooling: bool | None = None
    fused_optimiser: bool | None = None
    recorded: bool | None = None
    device_transforms: bool | None = None
    prefetch: bool | None = None
    evaluation_batch: Annotated[int, Field(ge=1, le=4096)] | None = None
