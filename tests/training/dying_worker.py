"""The job of a step, whose last rank is killed once the state after an iteration is saved.

torchrun -m dying_worker ITERATION [what dkd.train takes]
"""

import os
import signal
import sys

from dkd.training.resume import Saver
from dkd.training.state import TrainingState
from dkd.worker.job import main


def die_after(iteration: int) -> None:
    after_iteration = Saver.after_iteration

    def dying(self: Saver, state: TrainingState) -> None:
        after_iteration(self, state)
        if state.iteration == iteration:
            self.wait()  # rank 0's upload
            self.ranks.barrier()
            if self.ranks.rank == self.ranks.world_size - 1:
                os.kill(os.getpid(), signal.SIGKILL)

    Saver.after_iteration = dying  # type: ignore[method-assign]


if __name__ == "__main__":
    die_after(int(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
