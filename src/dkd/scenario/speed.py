"""Means that make a scenario's steps fast."""

from typing import Annotated

from pydantic import Field

from dkd.scenario.strict_model import StrictModel


class Speed(StrictModel):
    """Switches that make a step faster and change its result only in rounding.

    They are not part of any key. Without a switch, the step is computed in the plain way. Null
    leaves the decision to the device: true on a GPU, false on a CPU, where the defaults give
    exactly the bits of the plain way. Triton's kernels are also off where they cannot be compiled.

    Attributes:
        channels_last: store weights and activations with their channels innermost, as tensor cores
            read them. Dropout at step 0 then drops other features, as with another seed.
        fold_norms: multiply frozen batch normalisation into the convolutions of teacher and
            student, together with the residual sum and the ReLU that follow.
        unshuffled_stem: compute a ResNet's first convolution on 12 channels instead of 3.
        block_losses: compute losses block by block and keep nothing at full resolution. On
            everywhere by default.
        triton_losses: with ``block_losses``, compute all blocks in one kernel; no effect on a CPU.
        triton_pooling: compute a ResNet's first frozen normalisation, its ReLU and its pooling in
            one kernel; no effect on a CPU.
        fused_optimiser: update many parameters with one kernel.
        recorded: record the passes of steps > 0 once as CUDA graphs and replay them; no effect on a
            CPU.
        device_transforms: loader workers only decode; the device resizes and normalises whole
            batches.
        prefetch: copy and prepare the next batch on a stream of its own, beside the computation; no
            effect on a CPU.
        evaluation_batch: largest number of images of one size that are scored together; null is 16
            on a GPU and 1 on a CPU.
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
