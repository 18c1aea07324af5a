"""What a run's pods print: from Kubeflow Pipelines, and where that cannot tell, the cluster.

Its API server finds the log of a running pod only where every user has a namespace: else it asks
for the pod in no namespace at all, which it may not (seen in 2.17.0), and has the log once the pod
has ended and Argo has kept it; but not where Argo has packed the nodes of the workflow, in which it
looks for the place of what is kept. Its UI asks in the right one.
"""

from dkd.errors import UserError
from dkd.kubeflow import internals
from dkd.kubeflow.client import Endpoint
from dkd.kubeflow.internals import Started
from dkd.launching.kubernetes.api import Cluster, Unavailable


class PodLogs:
    """The logs of a run's pods.

    Args:
        endpoint: where the run is.
        run: its id.
    """

    def __init__(self, endpoint: Endpoint, run: str) -> None:
        self._endpoint, self._run = endpoint, run
        self._cluster: Cluster | None = None

    def read(self, task: Started, pod: str) -> str | None:
        """What a pod of a task has printed so far; None while, or when, it cannot be read.

        Raises:
            NoAnswer: the endpoint gave none.
        """
        text = self._endpoint.log(self._run, pod, task.namespace, task.started[:10])
        return text if text is not None else self._in_cluster(task.namespace, pod)

    def _in_cluster(self, namespace: str, pod: str) -> str | None:
        """Of the cluster that ``KUBECONFIG`` or this pod's account names, if it has such a pod."""
        try:
            self._cluster = self._cluster or Cluster(namespace)
            return self._cluster.log(pod, internals.CONTAINER, stamps=False)
        except (UserError, Unavailable):
            return None
