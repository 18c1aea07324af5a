"""A process that runs pipelines as ``dkd run`` does, so that tests can signal it: FOLDER.

Its runs' process stands in for the real one: it starts something that ends when it is told to, and
something that does not, as ranks that are killed only with the run.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dkd.kubeflow import local_processes
from dkd.kubeflow.local_pipeline import Planned
from dkd.kubeflow.signals import passed_on

COMPONENT = """
trap 'touch "$1/TERM"; exit' TERM
trap 'touch "$1/INT"; exit' INT
mktemp -d && touch "$1/ready"
sleep 600 & wait
"""
DEAF = "trap '' TERM INT; sleep 600"


def run_pipeline(folder: str) -> None:
    tempfile.mkdtemp()
    subprocess.Popen(["sh", "-c", DEAF])
    component = subprocess.Popen(["sh", "-c", COMPONENT, "", folder])
    with passed_on(lambda: [component.pid]):
        time.sleep(600)


if __name__ == "__main__":
    if sys.argv[1] == "run":
        run_pipeline(sys.argv[2])
    local_processes.COMMAND = (sys.executable, __file__, "run", sys.argv[1])
    with local_processes.PipelineProcesses(1) as processes:
        processes.run([Planned("one", None, {})], "", Path(sys.argv[1]), print)
