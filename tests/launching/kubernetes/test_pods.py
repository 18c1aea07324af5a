"""What the pods of a job tell."""

import json
from typing import Any

import pytest

from dkd.launching.kubernetes import pods


def pod(phase: str, *containers: dict[str, Any], reason: str = "", **more: Any) -> dict[str, Any]:
    """A pod of one node, with its containers' states."""
    statuses = [{"name": "node", "state": state} for state in containers]
    return {
        "metadata": {"name": "step-1-node-0", "creationTimestamp": "t0"},
        "spec": {
            "nodeName": "machine",
            "containers": [{"resources": {"limits": {"memory": "4Gi"}}}],
        },
        "status": {"phase": phase, "reason": reason, "containerStatuses": statuses, **more},
    }


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {
        "terminated": {
            "exitCode": code,
            "reason": reason,
            "message": message,
            "finishedAt": "t1",
        }
    }


TAKEN = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "DeletionByTaintManager",
    "message": "away",
    "lastTransitionTime": "t2",
}
RANK = '{"rank": 3, "time": "t9", "lines": ["no such file"], "bad_input": true, "final": true}'


@pytest.mark.parametrize(
    ("found", "cause", "what"),
    [
        (
            pod("Failed", reason="Evicted", message="low\non disk"),
            "killed",
            "was evicted from machine: low on disk",
        ),
        (
            pod(
                "Failed",
                reason="Evicted",
                message='Usage of EmptyDir volume "scratch" exceeds the limit "20Gi". ',
            ),
            "killed",
            'was evicted from machine: Usage of EmptyDir volume "scratch" exceeds the limit '
            '"20Gi". (launch.scratch)',
        ),
        (
            pod("Failed", ended(1), conditions=[TAKEN]),
            "killed",
            "was taken from machine (DeletionByTaintManager: away)",
        ),
        (pod("Failed", reason="Shutdown"), "killed", "ended: Shutdown"),
        (pod("Failed"), "killed", "ended: no reason given"),
        (pod("Failed", ended(137, "OOMKilled")), "killed", "ran out of memory (limit 4Gi)"),
        (pod("Failed", ended(128, "StartError")), "error", "could not start"),
        (pod("Failed", ended(1)), "error", "failed with exit code 1"),
        (pod("Failed", ended(143)), "stopped", "failed with exit code 143"),
        (pod("Failed", ended(1, message=RANK)), "error", "failed in rank 3"),
    ],
)
def test_how_a_pod_died(found: dict[str, Any], cause: str, what: str) -> None:
    death = pods.death(found, node=2)
    assert death is not None
    assert (death.node, death.pod) == (2, "step-1-node-0")
    assert (death.cause, death.what) == (cause, what)


def test_a_deleted_pod_was_told_to_stop() -> None:
    found = pod("Failed", ended(1))
    found["metadata"]["deletionTimestamp"] = "t3"
    death = pods.death(found, 0)
    assert death is not None
    assert death.cause == "stopped"


def test_what_a_rank_said_last_is_kept() -> None:
    death = pods.death(pod("Failed", ended(1, message=RANK)), 0)
    assert death is not None
    assert (death.lines, death.at) == (("no such file",), "t9")
    assert (death.bad_input, death.final) == (True, True)


def test_a_log_of_events_is_read_as_its_events() -> None:
    event = {"time": "", "level": "error", "run": "r", "step": 1, "rank": 0, "event": "one\ntwo"}
    words = pods.last_words(f"torchrun says\n{json.dumps(event)}\n")
    assert words.lines == ("torchrun says", "one", "two")


def test_the_log_tells_of_a_killed_rank_whose_peer_spoke() -> None:
    death = pods.death(pod("Failed", ended(1, message=RANK)), 0, log=DEAD)
    assert death is not None
    assert (death.cause, death.what) == ("killed", "lost rank 12 to SIGKILL")
    assert death.lines == ("no such file",)


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (pod("Succeeded"), "succeeded"),
        (pod("Failed"), "failed"),
        (pod("Pending"), "starting"),
        (pod("Running"), "running"),
        (pod("Running", conditions=[TAKEN]), "unreachable"),
    ],
)
def test_where_a_pod_is_in_its_life(found: dict[str, Any], state: str) -> None:
    assert pods.state(found) == state
    if state != "failed":
        assert pods.death(found, 0) is None


def test_final_words_explain_the_others_then_the_earliest() -> None:
    def death(node: int, cause: Any, at: str, final: bool = False) -> pods.Death:
        return pods.Death(node, f"pod-{node}", cause, "", (), at, final=final)

    stopped, error = death(0, "stopped", "t0"), death(1, "error", "t2")
    killed, later = death(2, "killed", "t3"), death(3, "killed", "t4")
    final = death(4, "error", "t5", final=True)
    assert pods.first_death([stopped, error]) == error
    assert pods.first_death([stopped, error, later, killed]) == killed
    assert pods.first_death([stopped, error, later, killed, final]) == final


# Written by torchrun of torch 2.15 for a rank that was killed.
DEAD = (
    "Root Cause (first observed failure):\n[0]:\n"
    "  time      : 2026-03-01_10:00:00\n  host      : machine\n"
    "  rank      : 12 (local_rank: 4)\n  exitcode  : -9 (pid: 31416)\n"
    "  error_file: <N/A>\n  traceback : Signal 9 (SIGKILL) received by PID 31416\n"
)


def test_torchruns_list_of_the_dead_is_read() -> None:
    words = pods.last_words(DEAD)
    assert (words.rank, words.signal) == (12, "SIGKILL")
    stopped = DEAD.replace("-9", "-15").replace("SIGKILL", "SIGTERM")
    assert pods.last_words(stopped).signal == ""  # torchrun's own doing
