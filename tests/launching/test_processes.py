"""Processes found by a mark in their environment, whoever started them."""

import signal
import subprocess

from waiting import wait_until

from dkd.launching import processes


def test_marked_processes_are_found_and_killed() -> None:
    process = subprocess.Popen(["sleep", "600"], env={"MARK": "a-test"})
    try:
        wait_until(
            lambda: [each.pid for each in processes.marked("a-test", "MARK")] == [process.pid]
        )
        assert processes.marked("another", "MARK") == []
    finally:
        processes.kill_marked("a-test", "MARK")
    assert process.wait(120) == -signal.SIGKILL
    assert processes.marked("a-test", "MARK") == []
