"""A worker for the tests of launching: does what its first argument says.

torchrun -m launched_worker BEHAVIOUR [FOLDER]
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dkd import log
from dkd.launching.rank import follow_parent

RANK = int(os.environ["RANK"])


def together(publish_at: str | None) -> None:
    """One collective operation, then a published result, or the death of rank 1."""
    import torch
    import torch.distributed

    torch.distributed.init_process_group("gloo")
    total = torch.tensor(RANK + 1)
    torch.distributed.all_reduce(total)
    print(f"sum {total} seen by rank {RANK} with {torch.get_num_threads()} thread", flush=True)
    if publish_at:
        if RANK == 0:
            from dkd.storage import artifacts

            artifacts.publish(publish_at, {"x": b"1"}, kind="test", metadata={})
    elif RANK == 1:
        raise RuntimeError("the cat ate the gradient")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def wait(folder: Path) -> None:
    """Runs until told to stop, with a child process as a loader would be, and a temporary file."""

    def save(*_: object) -> None:
        (folder / f"saved-{RANK}").touch()
        sys.exit(143)

    signal.signal(signal.SIGTERM, save)
    subprocess.Popen(["sleep", "600"])
    Path(tempfile.mkdtemp(), "weights").touch()
    (folder / f"ready-{RANK}").write_text(str(os.getppid()))
    while True:
        time.sleep(1)


def main() -> None:
    follow_parent()
    log.start()
    behaviour, *rest = sys.argv[1:]
    if behaviour == "publish":
        together(rest[0])
    elif behaviour == "raise":
        together(None)
    elif behaviour == "wait":
        wait(Path(rest[0]))
    elif behaviour == "bad-input":
        print("dkd: images/7.jpg: its mask is missing; add masks/7.png", file=sys.stderr)
        sys.exit(2)
    elif behaviour == "killed" and RANK == 1:
        print("about to go", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    elif behaviour == "killed":
        time.sleep(600)


if __name__ == "__main__":
    main()
