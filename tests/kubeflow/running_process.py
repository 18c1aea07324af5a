"""A process that runs something as ``dkd run`` does, so that tests can signal it: FOLDER."""

import subprocess
import sys
import tempfile
import time

from dkd.kubeflow.local_processes import run_processes

if __name__ == "__main__":
    with run_processes():
        tempfile.mkdtemp()
        subprocess.Popen(
            ["sh", "-c", 'mktemp -d && touch "$1/ready" && sleep 600', "", sys.argv[1]]
        )
        time.sleep(600)
