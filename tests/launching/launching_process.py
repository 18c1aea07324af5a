"""A launching process of its own, so that tests can signal it: NODES PER_NODE BEHAVIOUR FOLDER."""

import os
import sys
from pathlib import Path

from dkd.launching import launcher
from dkd.launching.interface import Job
from dkd.scenario.launch import Launch

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    launcher(Launch(processes_per_node=2)).run(
        Job(
            name="signalled",
            module="launched_worker",
            arguments=("wait", str(folder)),
            environment={"PYTHONPATH": str(Path(__file__).parent)},
            result=str(folder / "result"),
        )
    )
    os._exit(99)  # no test gets here
