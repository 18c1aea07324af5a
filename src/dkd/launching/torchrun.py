"""``torchrun`` for the local backend: the same program with two additions.

    python -m dkd.launching.torchrun REPORT <arguments of torchrun>

It is :func:`torch.distributed.run.main` (https://docs.pytorch.org/docs/stable/elastic/run.html)
which besides writes the ranks' failures to the file ``REPORT`` as JSON, which torchrun only
prints, and tells the ranks which process to follow.
"""

import json
import os
import sys
from pathlib import Path

from dkd.launching.rank import PARENT


def main() -> None:
    """Runs torchrun; its exit status is 0 if every rank's is."""
    report, *arguments = sys.argv[1:]
    os.environ[PARENT] = str(os.getpid())

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
        Path(report).write_text(json.dumps(failures), encoding="utf-8")
        sys.exit(1)
    except SignalException as error:
        sys.exit(128 + error.sigval)


if __name__ == "__main__":
    main()
