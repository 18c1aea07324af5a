"""``torchrun`` for the local backend: the same program with two additions.

    python -m dkd.launching.torchrun LAUNCHER REPORT FOLDER <arguments of torchrun>

It is :func:`torch.distributed.run.main` (https://docs.pytorch.org/docs/stable/elastic/run.html)
which besides

* writes the ranks' failures to the file ``REPORT`` as JSON, which torchrun only prints;
* ends the ranks at once and removes ``FOLDER`` (the ranks' logs) when the process ``LAUNCHER``
  (an id; its parent) is gone, SIGKILLed included.
"""

import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path

from dkd.launching.processes import MARK, kill_marked
from dkd.launching.worker import PARENT


def _end_with_launcher(launcher: int, folder: Path) -> None:
    while os.getppid() == launcher:
        time.sleep(0.2)
    kill_marked(os.environ[MARK])
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def main() -> None:
    """Runs torchrun; its exit status is 0 if every rank's is."""
    launcher, report, folder, *arguments = sys.argv[1:]
    os.environ[PARENT] = str(os.getpid())
    threading.Thread(
        target=_end_with_launcher, args=(int(launcher), Path(folder)), daemon=True
    ).start()

    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        run.run(run.parse_args(arguments))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        failures = [
            {"rank": rank, "exit_code": failure.exitcode, "time": failure.timestamp}
            for rank, failure in error.failures.items()
        ]
        Path(report).write_text(json.dumps(failures))
        sys.exit(1)
    except SignalException as error:
        sys.exit(128 + error.sigval)


if __name__ == "__main__":
    main()
