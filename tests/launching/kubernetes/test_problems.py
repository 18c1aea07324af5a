"""Jobs that do not start: each reason said in one clear line, and given up where waiting is no use.

The texts that the cluster is made to say are those of Kubernetes 1.34 and its operators.
"""

import json

import fake_api
import pytest
from cluster_stage import RUNTIME, Stage, wait_until
from fake_api import Error, terminated, waiting

SINCE = "2026-03-01T10:00:05Z"


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
    assert set(stage.api.objects) == {("trainingruntimes", "dkd")}  # nothing is left behind
    assert "quota few-jobs is exceeded (requested: count/jobs=1, used: count/jobs=3" in message
    assert message.endswith("kubectl describe quota few-jobs -n team")


def test_refused_by_a_webhook(stage: Stage) -> None:
    said = 'admission webhook "policy.example" denied the request: image is not signed'
    refuse(stage, "create", Error(403, said, "", "Forbidden"))
    message = stage.launch().failure()
    assert f"the cluster refuses the {stage.operator.resource.kind}: {said}" in message


def test_a_webhook_that_does_not_know_the_jobs_runtime_yet(trainjob: Stage) -> None:
    """It asks a cache that lags behind what was created a moment ago."""
    said = (
        'admission webhook "validator.trainjob.trainer.kubeflow.org" denied the request: '
        'spec.runtimeRef: Invalid value: {"name":"step-1-abc"}: TrainingRuntime.trainer.'
        'kubeflow.org "step-1-abc" not found: specified trainingRuntime must be created before '
        "the TrainJob is created"
    )
    left = [Error(403, said, "", "Forbidden")] * 2

    def fault(verb: str, resource: str) -> None:
        if (verb, resource) == ("create", "trainjobs") and left:
            raise left.pop()

    trainjob.api.fault = fault
    launched = trainjob.launch()
    launched.wait_for("Trainer does not know TrainingRuntime step-1-abc yet; trying again")
    trainjob.created()
    trainjob.complete()
    launched.result()
    assert not left


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
