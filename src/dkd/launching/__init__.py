"""Running a step's workers, whatever runs them (:mod:`dkd.launching.interface`)."""

from dkd.launching.interface import Launcher
from dkd.scenario.launch import Launch


def launcher(launch: Launch) -> Launcher:
    """The launcher of a backend, with a scenario's settings."""
    if launch.backend == "local":
        from dkd.launching.local import LocalLauncher

        return LocalLauncher(launch)
    from dkd.launching.kubernetes.cluster import ClusterLauncher
    from dkd.launching.kubernetes.pytorchjob import PyTorchJobs
    from dkd.launching.kubernetes.trainjob import TrainJobs

    operator = TrainJobs() if launch.backend == "trainjob" else PyTorchJobs()
    return ClusterLauncher(operator, launch)
