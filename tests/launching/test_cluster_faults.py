"""Faults of jobs on a cluster: each said in one clear line, or ended in a clear failure.

The texts that the cluster is made to say are those of Kubernetes 1.34 and its operators.
"""

import json
from dataclasses import replace

import fake_api
import pytest
from cluster_stage import HURRY, RUNTIME, Stage, wait_until
from fake_api import Error, terminated, waiting

SINCE = "2026-03-01T10:00:05Z"


def last_words(rank: int, *lines: str, bad_input: bool = False, at: str = SINCE) -> str:
    return json.dumps({"rank": rank, "time": at, "lines": lines, "bad_input": bad_input})


def refuse(stage: Stage, verb: str, error: Error, resource: str = "") -> None:
    def fault(asked: str, of: str) -> None:
        if asked == verb and of == (resource or stage.plural):
            raise error

    stage.api.fault = fault


# ---- refused by the API server


def test_operator_not_installed(stage: Stage) -> None:
    stage.api.resources.clear()
    message = stage.launch().failure()
    name = stage.operator.resource.full_name
    assert f"this cluster has no {name}: install Kubeflow Train" in message
    assert message.endswith(f"kubectl get crd {name}")


def test_namespace_missing(stage: Stage) -> None:
    stage.api.namespaces.clear()
    stage.api.objects.clear()
    message = stage.launch().failure()
    assert "namespace team does not exist; kubectl get namespaces" in message


def test_runtime_missing(trainjob: Stage) -> None:
    trainjob.api.objects.clear()
    message = trainjob.launch().failure()
    assert "namespace team has no TrainingRuntime dkd: apply k8s/ to it" in message
    assert message.endswith("kubectl get trainingruntimes.trainer.kubeflow.org -n team")


def test_runtime_of_another_kind(trainjob: Stage) -> None:
    broken = json.loads(json.dumps(RUNTIME))
    broken["spec"]["template"]["spec"]["replicatedJobs"][0]["name"] = "launcher"
    trainjob.api.objects["trainingruntimes", "dkd"] = broken
    assert "has no replicated job 'node'; apply k8s/ again" in trainjob.launch().failure()


def test_right_refused(stage: Stage) -> None:
    group = stage.operator.resource.group
    said = (
        f'{stage.plural}.{group} is forbidden: User "system:serviceaccount:team:default" cannot '
        f'create resource "{stage.plural}" in API group "{group}" in the namespace "team"'
    )
    refuse(stage, "create", Error(403, said, stage.plural, "Forbidden"))
    message = stage.launch().failure()
    assert said in message
    assert f"kubectl auth can-i create {stage.operator.resource.full_name} -n team" in message


def test_right_to_look_at_pods_refused(stage: Stage) -> None:
    refuse(stage, "list", Error(403, "pods is forbidden", "pods", "Forbidden"), "pods")
    message = stage.launch().failure()
    assert "cannot be followed: pods is forbidden; bind the role of k8s/" in message
    assert stage.api.deleted == [(stage.plural, stage.name)]


def test_quota_of_objects_exceeded(stage: Stage) -> None:
    said = (
        f'{stage.plural} "step-1-abc" is forbidden: exceeded quota: few-jobs, requested: '
        "count/jobs=1, used: count/jobs=3, limited: count/jobs=3"
    )
    refuse(stage, "create", Error(403, said, stage.plural, "Forbidden"))
    message = stage.launch().failure()
    assert "quota few-jobs is exceeded (requested: count/jobs=1, used: count/jobs=3" in message
    assert message.endswith("kubectl describe quota few-jobs -n team")


def test_refused_by_a_webhook(stage: Stage) -> None:
    said = 'admission webhook "policy.example" denied the request: image is not signed'
    refuse(stage, "create", Error(403, said, "", "Forbidden"))
    message = stage.launch().failure()
    assert f"the cluster refuses the {stage.operator.resource.kind}: {said}" in message


# ---- pods that cannot be created: only events tell


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            'Error creating: pods "step-1-abc-node-0-0-" is forbidden: error looking up service '
            'account team/dkd-worker: serviceaccount "dkd-worker" not found',
            "service account dkd-worker does not exist in namespace team: apply k8s/, or set "
            "launch.service_account; kubectl get serviceaccount dkd-worker -n team",
        ),
        (
            'Error creating: pods "x" is forbidden: violates PodSecurity "restricted:latest": '
            'allowPrivilegeEscalation != false (container "init-pytorch" must set '
            "securityContext.allowPrivilegeEscalation=false)",
            'namespace team refuses the job\'s pods: violates PodSecurity "restricted:latest": '
            'allowPrivilegeEscalation != false (container "init-pytorch" must set '
            "securityContext.allowPrivilegeEscalation=false); kubectl get namespace team "
            "--show-labels",
        ),
        (
            'Error creating: pods "x" is forbidden: maximum memory usage per Container is 1Gi, but '
            "limit is 2Gi",
            "its pods cannot be created: Error creating: pods",
        ),
    ],
    ids=["service account", "pod security", "limit range"],
)
def test_pods_that_cannot_be_created(stage: Stage, said: str, told: str) -> None:
    launched = stage.launch()
    stage.created()
    name = stage.operator.objects_with_events(stage.name)[-1]
    reason = "FailedCreate" if stage.kind == "trainjob" else "FailedCreatePod"
    stage.api.add_event(name, reason, said)
    launched.wait_for(told)
    message = launched.failure()  # nothing will change by itself
    assert told in message
    assert stage.api.deleted == [(stage.plural, stage.name)]


def test_quota_of_resources_exceeded_is_waited_for(stage: Stage) -> None:
    launched = stage.launch()
    stage.created()
    name = stage.operator.objects_with_events(stage.name)[-1]
    stage.api.add_event(
        name,
        "FailedCreate",
        'Error creating: pods "x" is forbidden: exceeded quota: team, requested: cpu=4, used: '
        "cpu=7, limited: cpu=8",
    )
    line = launched.wait_for(
        "quota team is exceeded (requested: cpu=4, used: cpu=7, limited: cpu=8)"
    )
    assert line.endswith("kubectl describe quota team -n team")
    stage.pod(0)
    stage.pod(1)
    launched.wait_for("node 1 running")
    stage.complete()
    launched.result()


def test_events_of_an_earlier_job_are_not_taken_for_this_ones(trainjob: Stage) -> None:
    trainjob.api.add_event(
        "step-1-abc-node-0", "FailedCreate", "exceeded quota: team", at="2020-01-01T00:00:00Z"
    )
    launched = trainjob.launch()
    trainjob.created()
    launched.wait_for("node 1 not created")
    count = len(trainjob.api.requests)
    wait_until(lambda: trainjob.api.requests[count:].count(("list", "events")) > 4)
    assert not any("quota" in line for line in launched.said)
    trainjob.complete()
    launched.result()


# ---- pods that cannot start


def test_no_gpus_free(stage: Stage) -> None:
    launched = stage.launch()
    stage.created()
    stage.pod(0)
    stage.pod(
        1,
        "Pending",
        conditions=[
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "lastTransitionTime": SINCE,
                "message": "0/3 nodes are available: 1 node(s) had untolerated taint {x: y}, "
                "2 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available.",
            }
        ],
    )
    line = launched.wait_for(f"node 1 of the job waits for lack of nvidia.com/gpu since {SINCE}")
    assert "2 Insufficient nvidia.com/gpu" in line
    assert "kubectl describe pod step-1-abc-" in line
    count = len(stage.api.requests)
    wait_until(lambda: len(stage.api.requests) > count + 20)
    assert len([said for said in launched.said if "nvidia.com/gpu" in said]) == 1  # said once
    stage.complete()
    launched.result()


@pytest.mark.parametrize(
    ("reason", "said", "told"),
    [
        (
            "ImagePullBackOff",
            'Back-off pulling image "train:1": ErrImagePull: not found',
            'image train:1 cannot be pulled (ImagePullBackOff: Back-off pulling image "train:1"',
        ),
        (
            "CreateContainerConfigError",
            'configmap "dkd-s3" not found',
            'container node cannot start (CreateContainerConfigError: configmap "dkd-s3" not',
        ),
        ("InvalidImageName", "couldn't parse image", "image train:1 cannot be pulled"),
    ],
)
def test_containers_that_cannot_start(stage: Stage, reason: str, said: str, told: str) -> None:
    launched = stage.launch()
    stage.created()
    pod = stage.pod(0, "Pending", host="machine0", containers=[waiting(reason, said)])
    launched.wait_for(told)
    message = launched.failure()
    assert told in message
    assert message.endswith(f"kubectl describe pod {pod} -n team")
    assert stage.api.deleted == [(stage.plural, stage.name)]


def test_an_init_container_that_cannot_start(pytorchjob: Stage) -> None:
    launched = pytorchjob.launch()
    pytorchjob.created()
    pytorchjob.pod(0)
    stuck = waiting("ErrImagePull", "no route", image="alpine:3.10", name="init-pytorch")
    pytorchjob.pod(1, "Pending", host="machine1", initContainerStatuses=[stuck])
    assert "image alpine:3.10 cannot be pulled" in launched.failure()


def test_a_missing_secret(trainjob: Stage) -> None:
    launched = trainjob.launch()
    trainjob.created()
    pod = trainjob.pod(0, "Pending", host="machine0")
    trainjob.api.add_event(
        pod,
        "FailedMount",
        'MountVolume.SetUp failed for volume "s3-keys" : secret '
        '"mlpipeline-minio-artifact" not found',
        kind="Pod",
    )
    assert 'secret "mlpipeline-minio-artifact" not found' in launched.failure()


def test_a_program_that_the_image_lacks(trainjob: Stage) -> None:
    launched = trainjob.launch()
    trainjob.created()
    said = 'exec: "torchrun": executable file not found in $PATH'
    trainjob.pod(0, "Failed", containers=[terminated(128, "StartError", said)])
    trainjob.condition("Failed")
    message = launched.failure()
    assert "node 0 could not start" in message
    assert said in message


def test_waiting_in_kueue(stage: Stage) -> None:
    launched = stage.launch(queue="dkd")
    stage.created()
    found = stage.api.objects[stage.plural, stage.name]
    assert found["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "dkd"
    stage.condition("Suspended", lastTransitionTime=SINCE)
    stage.api.events.append(
        {
            "metadata": {},
            "type": "Normal",
            "reason": "Pending",
            "message": "couldn't assign flavors to pod set node: insufficient unused quota for cpu",
            "lastTimestamp": SINCE,
            "involvedObject": {"kind": "Workload", "name": f"{stage.kind}-step-1-abc-3f2a1"},
        }
    )
    line = launched.wait_for(f"the job waits in queue dkd since {SINCE}")
    wait_until(lambda: any("insufficient unused quota" in said for said in launched.said))
    assert line.endswith("kubectl get workloads -n team")
    stage.condition("Suspended", status="False", lastTransitionTime=fake_api.now())
    stage.pod(0)
    launched.wait_for("node 0 running")
    stage.complete()
    launched.result()


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
    stage.condition("Failed")
    message = launched.failure()
    assert "node 1 was evicted from m1: The node was low on resource: ephemeral-storage." in message


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
    line = launched.wait_for(f"machine machine1 does not answer since {SINCE}")
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
    assert len([said for said in launched.said if "does not answer" in said]) == 1
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
    with stage.api.lock:
        stage.api.objects[stage.plural, stage.name]["metadata"]["creationTimestamp"] = (
            "2026-01-01T00:00:00Z"
        )
    message = launched.failure()
    assert "passed its deadline (launch.deadline=60 s) and was deleted" in message
    assert stage.api.deleted == [(stage.plural, stage.name)]


def test_the_deadline_does_not_count_the_queue(stage: Stage) -> None:
    launched = stage.launch(deadline=60)
    stage.created()
    stage.condition("Suspended")
    with stage.api.lock:
        stage.api.objects[stage.plural, stage.name]["metadata"]["creationTimestamp"] = (
            "2026-01-01T00:00:00Z"
        )
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
