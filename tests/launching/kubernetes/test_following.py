"""Jobs that lose ranks, pods or machines: started again, or ended in one clear failure.

The texts that the cluster is made to say are those of Kubernetes 1.34 and its operators.
"""

import json
from dataclasses import replace

import fake_api
from cluster_stage import HURRY, Stage, wait_until
from fake_api import terminated

SINCE = "2026-03-01T10:00:05Z"


def last_words(rank: int, *lines: str, bad_input: bool = False, at: str = SINCE) -> str:
    return json.dumps({"rank": rank, "time": at, "lines": lines, "bad_input": bad_input})


# ---- ranks that die


def test_the_failing_rank_speaks_last(stage: Stage) -> None:
    launched = stage.launch(max_restarts=0)
    stage.created()
    peer = last_words(0, "RuntimeError: connection closed by peer", at="2026-03-01T10:00:06.5Z")
    cause = last_words(3, "Traceback", "ValueError: 7 is no class", at="2026-03-01T10:00:06.2Z")
    stage.pod(0, "Failed", containers=[terminated(1, message=peer)])
    pod = stage.pod(1, "Failed", containers=[terminated(1, message=cause)])
    stage.condition("Failed")
    container = stage.operator.container
    assert launched.failure() == (
        f"job step-1-abc: node 1 failed in rank 3; kubectl logs {pod} -c {container} -n team; "
        "its last lines:\n    Traceback\n    ValueError: 7 is no class"
    )
    assert stage.api.deleted == []  # it is still there to be looked at


def test_bad_input_is_one_line_and_not_tried_again(stage: Stage) -> None:
    launched = stage.launch(max_restarts=3)
    stage.created()
    line = "s3://bucket/runs: not writable with these keys; ask for s3:PutObject"
    stage.pod(0, "Failed", containers=[terminated(1, message=last_words(0, line, bad_input=True))])
    assert launched.failure() == line
    assert stage.api.deleted == [(stage.plural, stage.name)]
    assert stage.api.requests.count(("create", stage.plural)) == 1


def test_a_mistake_of_the_program_is_not_tried_again(stage: Stage) -> None:
    launched = stage.launch(max_restarts=3)
    stage.created()
    words = json.loads(last_words(2, "Traceback", "KeyError: 'cat'")) | {"final": True}
    stage.pod(0, "Failed", containers=[terminated(1, message=json.dumps(words))])
    failure = launched.failure()
    assert failure.startswith("job step-1-abc: node 0 failed in rank 2; kubectl logs ")
    assert failure.endswith("its last lines:\n    Traceback\n    KeyError: 'cat'")
    assert stage.api.deleted == [(stage.plural, stage.name)]
    assert stage.api.requests.count(("create", stage.plural)) == 1


def test_bad_input_is_final_though_the_operator_was_faster(trainjob: Stage) -> None:
    """JobSet had started all ranks again before the launching task looked."""

    def no_pods(verb: str, resource: str) -> None:
        if resource == "pods":
            raise fake_api.Error(500, "etcdserver: request timed out", "", "InternalError")

    launched = trainjob.launch(max_restarts=3)
    trainjob.created()
    trainjob.api.fault = no_pods
    line = "training.lr: the loss is no longer finite at iteration 15; use a lower rate"
    words = last_words(1, line, bad_input=True)
    trainjob.pod(1, "Failed", containers=[terminated(1, message=words)])
    trainjob.pod(1, attempt=1)
    trainjob.api.fault = lambda verb, resource: None
    assert launched.failure() == line
    assert trainjob.api.deleted == [(trainjob.plural, trainjob.name)]
    assert not any("start again" in line for line in launched.said)


def test_a_rank_out_of_memory(stage: Stage) -> None:
    launched = stage.launch(max_restarts=0)
    stage.created()
    stage.pod(1, "Failed", containers=[terminated(137, "OOMKilled")])
    stage.pod(0, "Failed", containers=[terminated(1, message=last_words(0, "closed by peer"))])
    stage.condition("Failed")
    assert "node 1 ran out of memory (limit 2Gi); kubectl logs" in launched.failure()


TORCHRUN_END = """
dkd.train FAILED
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-03-01_10:00:00
  host      : step-1-abc-node-0-0
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 123)
  error_file: <N/A>
  traceback : Signal 9 (SIGKILL) received by PID 123
============================================================
"""


def test_a_killed_rank_is_named_though_its_peer_spoke(trainjob: Stage) -> None:
    launched = trainjob.launch()
    trainjob.created()
    pod = trainjob.pod(0)
    trainjob.api.write_log(pod, *TORCHRUN_END.splitlines())
    launched.wait_for("SIGKILL")
    spoke = last_words(0, "RuntimeError: connection closed by peer")
    trainjob.pod(0, "Failed", containers=[terminated(1, message=spoke)])
    trainjob.condition("Failed")
    assert "node 0 lost rank 1 to SIGKILL" in launched.failure()


def test_an_evicted_pod(stage: Stage) -> None:
    launched = stage.launch(max_restarts=0)
    stage.created()
    stage.pod(
        1,
        "Failed",
        host="m1",
        reason="Evicted",
        message="The node was low on resource: ephemeral-storage. ",
    )
    launched.wait_for("step-1-abc: node 1 was evicted from m1: ")  # long before its peers' end
    stage.condition("Failed")
    message = launched.failure()
    assert "node 1 was evicted from m1: The node was low on resource: ephemeral-storage." in message


def no_machine_answers(verb: str, resource: str) -> None:
    """What the API server says where a log's machine is gone, or has removed the container."""
    if resource == "pods/log":
        said = 'Get "https://10.0.0.7:10250/containerLogs/x": dial tcp: no route to host'
        raise fake_api.Error(500, said, "", "InternalError")


def test_an_evicted_pod_whose_log_is_gone(stage: Stage) -> None:
    stage.api.fault = no_machine_answers
    launched = stage.launch(max_restarts=0)
    stage.created()
    stage.pod(0, "Failed", host="m0", reason="Evicted", message="Pod used too much storage.")
    launched.wait_for("node 0 failed on m0")
    stage.condition("Failed")
    assert "node 0 was evicted from m0: Pod used too much storage." in launched.failure()


def test_the_machine_of_node_0_is_lost(stage: Stage) -> None:
    launched = stage.launch()
    stage.created()
    stage.pod(0, host="machine0")
    launched.wait_for("node 0 running on machine0")
    stage.api.fault = no_machine_answers
    silent = {"type": "Ready", "status": "False", "lastTransitionTime": SINCE}
    stage.pod(0, host="machine0", conditions=[silent])
    launched.wait_for(f"machine machine0 has not answered since {SINCE}")
    assert not any("API server" in line for line in launched.said)
    stage.complete()
    launched.result()


def test_a_drained_machine(stage: Stage) -> None:
    launched = stage.launch(max_restarts=0)
    stage.created()
    taken = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
        "lastTransitionTime": SINCE,
    }
    stage.pod(1, "Failed", host="m1", conditions=[taken], containers=[terminated(143)])
    stage.condition("Failed")
    assert "node 1 was taken from m1 (EvictionByEvictionAPI: " in launched.failure()


def test_a_failure_that_left_no_pods(stage: Stage) -> None:
    launched = stage.launch(max_restarts=0)
    stage.created()
    stage.condition("Failed", reason="FailedJobs", message="jobset failed")
    assert "failed (FailedJobs: jobset failed); kubectl get events -n team" in launched.failure()


def test_a_lost_machine_is_said_plainly(stage: Stage) -> None:
    launched = stage.launch()
    stage.created()
    stage.pod(0)
    name = stage.pod(1, host="machine1")
    launched.wait_for("node 1 running on machine1")
    silent = {"type": "Ready", "status": "False", "lastTransitionTime": SINCE}
    stage.pod(1, host="machine1", conditions=[silent])
    line = launched.wait_for(f"machine machine1 has not answered since {SINCE}")
    assert line.endswith("kubectl get node machine1; kubectl delete node machine1")
    launched.wait_for("node 1 unreachable on machine1")
    with stage.api.lock:  # the control plane asks for the pod's end, which nobody confirms
        pod = json.loads(json.dumps(stage.api.pods[name]))
    pod["metadata"]["deletionTimestamp"] = SINCE
    pod["status"]["conditions"].append(
        {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "lastTransitionTime": SINCE,
            "message": "Taint manager: deleting due to NoExecute taint",
        }
    )
    stage.api.put_pod(pod)
    stage.api.write_log(stage.pod(0), "still waiting")
    launched.wait_for("still waiting")
    assert len([said for said in launched.said if "has not answered" in said]) == 1
    stage.api.drop_pod(name)  # the Node object was deleted
    stage.pod(1, host="machine2")
    launched.wait_for("node 1 running on machine2")
    stage.complete()
    launched.result()


# ---- starting again


def test_jobset_starts_all_ranks_again_and_the_new_log_is_read(trainjob: Stage) -> None:
    launched = trainjob.launch(max_restarts=2)
    trainjob.created()
    first = trainjob.pod(0)
    trainjob.api.write_log(first, "epoch 1")
    launched.wait_for("epoch 1")
    trainjob.pod(0, "Failed", containers=[terminated(137, "OOMKilled")])
    trainjob.api.drop_pod(first)
    second = trainjob.pod(0, attempt=1)
    trainjob.api.write_log(second, "resumed at epoch 1", "epoch 2")
    launched.wait_for("node 0 ran out of memory")
    launched.wait_for("all ranks start again from the last save (restart 1 of 2)")
    launched.wait_for("epoch 2")
    trainjob.complete()
    launched.result()
    assert launched.said.count("epoch 1") == 1


def test_a_pytorchjob_is_started_again_by_the_launching_task(pytorchjob: Stage) -> None:
    launched = pytorchjob.launch(max_restarts=1)
    pytorchjob.created()
    pytorchjob.pod(1, "Failed", containers=[terminated(137, "OOMKilled")])
    pytorchjob.condition("Failed")
    launched.wait_for("starting all ranks again from the last save (restart 1 of 1)")
    wait_until(lambda: pytorchjob.api.requests.count(("create", "pytorchjobs")) == 2)
    pytorchjob.created()
    pytorchjob.pod(0, "Failed", attempt=1, containers=[terminated(1, message="boom")])
    pytorchjob.condition("Failed")
    message = launched.failure()
    assert "node 0 failed with exit code 1" in message
    assert message.endswith("    boom")


def test_a_deleted_pod_is_not_taken_for_the_cause(trainjob: Stage) -> None:
    launched = trainjob.launch(max_restarts=0)
    trainjob.created()
    made = fake_api.pod(trainjob.name, 0, "Failed", containers=[terminated(143)])
    made["metadata"]["deletionTimestamp"] = SINCE
    trainjob.api.put_pod(made)
    launched.wait_for("node 0 failed")
    trainjob.pod(1, "Failed", containers=[terminated(1, message="boom")])
    trainjob.condition("Failed")
    assert "node 1 failed with exit code 1" in launched.failure()


def test_the_deadline(stage: Stage) -> None:
    launched = stage.launch(deadline=60)
    stage.created()
    stage.pod(0)
    launched.wait_for("node 0 running")
    stage.created_long_ago()
    message = launched.failure()
    assert "passed its deadline (launch.deadline=60 s) and was deleted" in message
    assert stage.api.deleted == [(stage.plural, stage.name)]


def test_the_deadline_does_not_count_the_queue(stage: Stage) -> None:
    launched = stage.launch(deadline=60)
    stage.created()
    stage.condition("Suspended")
    stage.created_long_ago()
    launched.wait_for("is suspended")
    stage.condition("Suspended", status="False")
    stage.pod(0)
    launched.wait_for("node 0 running")
    stage.complete()
    launched.result()


def test_an_earlier_job_that_does_not_end(stage: Stage) -> None:
    first = stage.launch(max_restarts=0)
    stage.created()
    stage.condition("Failed")
    first.failure()
    stage.api.ending.clear()
    impatient = replace(HURRY, ending=0.3)
    message = stage.launch(impatient).failure()
    assert "the earlier job of its name does not end; a lost machine holds its pods" in message
