"""The pipeline's components, one folder each. They are thin: each calls :mod:`dkd.steps.stages`.

They run in the launcher image, which holds kfp and the cluster's client but no torch; whatever
needs torch is a job that they start.
"""

from collections.abc import Callable
from typing import Any

from kfp import dsl

from dkd import __version__

LAUNCHER_IMAGE = f"dkd-launcher:{__version__}"
"""Image of every component of a pipeline that is compiled without naming another."""


def component(function: Callable[..., Any]) -> Any:
    """A lightweight component of the launcher image. Nothing is installed at run time: pods may
    have no way out (https://kubeflow-pipelines.readthedocs.io, ``dsl.component``).
    """
    return dsl.component(function, base_image=LAUNCHER_IMAGE, install_kfp_package=False)
