"""``python -m dkd.train`` is the job of a step (:mod:`dkd.worker.job`): running jobs name it."""

import sys

from dkd.worker.job import main

if __name__ == "__main__":
    sys.exit(main())
