"""What every task's pod is given on purpose: resources, S3, a time limit, no KFP cache.

KFP's cache is off: it goes by the image's name and the parameters, does not see whether what a
URI points to is still there, and is kept per pipeline. Results are found by what they are made
of instead (:mod:`dkd.steps.step`), whichever pipeline made them, and checked when they are used.

How often Argo makes a pod anew is left to the installation. KFP's specification (2.17) has a number
of retries and pauses, but no policy, and a number alone makes things worse: where Argo goes by its
own default it tries failures again, which bad input is, and where it goes by KFP's configuration
(errors alone, twice, such as a pod that was deleted) it waits for the first pause before it says
that a task has failed. What may pass of a failure, that a component is killed, is tried again
inside the pod (:func:`outliving_kills`). Who tries again finds what is done, and goes on from the
last save.

What kfp-kubernetes (2.17) cannot say of a pod, and so nothing here: a read-only root file system, a
request for ephemeral storage, whether a service account's token is mounted (KFP's launcher needs
it), and the service account, which is the run's (``dkd submit --service-account``). KFP itself
drops all capabilities, forbids the gain of privileges and sets the seccomp profile.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kfp import kubernetes

from dkd.launching.kubernetes.nodes import KEYS, S3_CONFIG_MAP, labels

HOUR = 3600


@dataclass(frozen=True)
class Policy:
    """What a component may take, and how long.

    Attributes:
        hours: after which its pod is ended. For those that launch jobs this is a last resort:
            the job has a limit of its own (``launch.deadline``), which waiting in a queue does
            not use up, as it does here.
        cpu: CPUs requested, and the limit.
        memory: requested, and the limit.
    """

    hours: int
    cpu: tuple[str, str]
    memory: tuple[str, str]


PREPARING = Policy(hours=12, cpu=("200m", "2"), memory=("512Mi", "4Gi"))
LAUNCHING = Policy(hours=30 * 24, cpu=("100m", "2"), memory=("512Mi", "4Gi"))
REPORTING = Policy(hours=1, cpu=("200m", "2"), memory=("512Mi", "4Gi"))

# Variables of the S3 connection, of logs, of MLflow and of the model registry, from the ConfigMap
# that k8s/ brings; what it lacks stays unset.
VARIABLES = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "DKD_LOG",
    "DKD_MINIO_ENDPOINT",
    "DKD_MODEL_REGISTRY",
    "DKD_S3_CHECKSUM",
    "DKD_S3_SSE",
    "DKD_S3_SSE_KMS_KEY_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_TRACKING_URI",
)

_AGAIN = r"""
again=2 pause=30
trap 'again=0' TERM
while :; do
  "$@" && exit
  status=$?
  [ $status -eq 137 ] && [ $again -gt 0 ] || exit $status
  echo "the component was killed, for lack of memory perhaps; starting it again in $pause s" >&2
  sleep $pause
  [ $again -gt 0 ] || exit $status
  again=$((again - 1)) pause=$((2 * pause))
done
"""

_TELL_COMPONENT = r"""
signal=%d told=
tell() {
  for process in [0-9]*; do
    case "$(tr '\0' ' ' <$process/cmdline)" in "$1"*) kill -$2 $process && told=$process ;; esac
  done 2>/dev/null
}
cd /proc
tell "sh -c again=" TERM
told=
tell "python3 -m kfp.dsl.executor_main " $signal
[ -n "$told" ] || kill -$signal 1
"""

TERMINATE = (
    "workflows.argoproj.io/kill-cmd-main",
    json.dumps(["sh", "-c", _TELL_COMPONENT.strip()]),
)
"""Annotation by which Argo (3.2 or later) ends a component whose run is terminated.

Argo would signal the container's first process, and through it KFP's launcher (2.17), which dies
of it without waiting for the component; the container ends with it, and a launching component has
no time to delete its job. So the component alone is told; the launcher waits for its end, keeps
its log and reports it; and the shell of :func:`outliving_kills`, so that it lets it end. Argo puts
the signal's number for the only ``%d``.
"""


def outliving_kills(command: Sequence[str]) -> list[str]:
    """A component's command that is run again, at most twice, when it was killed (SIGKILL).

    So does the kernel that has no memory left, unless it ends the whole container. Any other end is
    the command's own: bad input is told once.
    """
    return ["sh", "-c", _AGAIN.strip(), "sh", *command]


def place(task: Any, policy: Policy, s3_secret: Any, *, on_cluster: bool) -> Any:
    """Gives a task its policy and the S3 connection; returns the task.

    Args:
        task: KFP's task.
        policy: its kind's.
        s3_secret: name of the secret with the S3 keys, or the pipeline's parameter. Where there
            is no such secret, pods must have credentials otherwise (IRSA). It is mounted, not put
            into variables, because a pod of 30 days outlives a key: files follow the secret.
        on_cluster: False for the local runner, which has no pods, and where a person sees a failure
            at once.
    """
    task.set_caching_options(False)
    if not on_cluster:
        return task
    kubernetes.set_timeout(task, policy.hours * HOUR)
    kubernetes.add_pod_annotation(task, *TERMINATE)
    kubernetes.use_config_map_as_env(
        task, S3_CONFIG_MAP, {name: name for name in VARIABLES}, optional=True
    )
    kubernetes.use_secret_as_volume(task, s3_secret, KEYS, optional=True)
    task.set_env_variable("DKD_S3_CREDENTIALS_DIR", KEYS)
    kubernetes.set_security_context(task, run_as_non_root=True)
    for label, value in labels("launcher").items():
        kubernetes.add_pod_label(task, label, value)
    task.set_cpu_request(policy.cpu[0]).set_cpu_limit(policy.cpu[1])
    task.set_memory_request(policy.memory[0]).set_memory_limit(policy.memory[1])
    return task
