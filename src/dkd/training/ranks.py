"""The ranks of a job: one small object instead of torch.distributed calls all over.

Works the same for a single process without torchrun (rank 0 of 1), so that every stage can be
called as a plain function.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

ANSWERS_WITHIN = timedelta(minutes=10)
"""How long a rank waits for another within an iteration: as PyTorch's NCCL does by itself. Its gloo
waits for half an hour, or until Linux gives a connection up. What takes one rank longer than the
others, such as a download, is waited for in :meth:`Ranks.barrier`.
"""


@dataclass(frozen=True)
class Ranks:
    """This process's place among the job's processes.

    Attributes:
        rank: 0 is the one that publishes and logs.
        world_size: number of processes.
        local_rank: place on this machine; also the GPU's index.
        device: where this rank computes.
        control: group of CPU tensors (gloo), for flags and objects; None in a single process.
    """

    rank: int
    world_size: int
    local_rank: int
    device: torch.device
    control: dist.ProcessGroup | None

    @property
    def first(self) -> bool:
        return self.rank == 0

    def barrier(self) -> None:
        if self.control is not None:
            dist.barrier(group=self.control)

    def share(self, make: Callable[[], T]) -> T:
        """Rank 0's ``make()``, on every rank. An exception there is raised on all."""
        if self.control is None:
            return make()
        box: list[Any] = [None, None]
        if self.first:
            try:
                box[0] = make()
            except Exception as error:
                box[1] = error
        dist.broadcast_object_list(box, src=0, group=self.control)
        if box[1] is not None:
            raise box[1]
        return box[0]  # type: ignore[no-any-return]

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in rank order, on every rank."""
        if self.control is None:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def any_of(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether it is set on any rank; asked in every iteration.

        Raises:
            RuntimeError: another rank did not answer within :data:`ANSWERS_WITHIN`.
        """
        if self.control is None:
            return flags
        tensor = torch.tensor(flags, dtype=torch.uint8)
        options = dist.AllreduceOptions()
        options.reduceOp, options.timeout = dist.ReduceOp.MAX, ANSWERS_WITHIN
        self.control.allreduce([tensor], options).wait()
        return tuple(bool(flag) for flag in tensor.tolist())

    def sum(self, tensor: Tensor) -> Tensor:
        """The exact sum of an integer tensor over the ranks, on every rank's CPU."""
        total = tensor.cpu().clone()
        if self.control is not None:
            dist.all_reduce(total, group=self.control)
        return total

    def average(self, tensor: Tensor) -> Tensor:
        """The mean of a tensor over the ranks, on the ranks' device."""
        if self.world_size == 1:
            return tensor
        total = tensor.clone()
        dist.all_reduce(total)
        return total / self.world_size


@contextmanager
def ranks() -> Iterator[Ranks]:
    """Joins the process group that torchrun describes, or stands alone without one."""
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if "RANK" not in os.environ:
        yield Ranks(0, 1, local_rank, device, None)
        return
    dist.init_process_group(
        "nccl" if cuda else "gloo", timeout=ANSWERS_WITHIN, device_id=device if cuda else None
    )
    try:
        control = dist.new_group(backend="gloo")
        assert isinstance(control, dist.ProcessGroup), "every rank is in the group"
        yield Ranks(dist.get_rank(), dist.get_world_size(), local_rank, device, control)
    finally:
        dist.destroy_process_group()
