"""Where Kubeflow Pipelines is: options that submit, status, logs and cancel share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from dkd.errors import UserError

if TYPE_CHECKING:
    from dkd.kubeflow.client import Endpoint


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--endpoint``, ``--port-forward`` and ``--namespace``."""
    for option in (
        click.option(
            "--namespace",
            envvar="DKD_KFP_NAMESPACE",
            default="",
            metavar="NAME",
            help="Your namespace, where every user has one (multi-user Kubeflow).",
        ),
        click.option(
            "--port-forward",
            "forwarded",
            is_flag=False,
            flag_value="kubeflow",
            metavar="[NAMESPACE]",
            help="Reach it through kubectl, in the namespace where it is installed (kubeflow).",
        ),
        click.option(
            "--endpoint",
            envvar="DKD_KFP_ENDPOINT",
            metavar="URL",
            help="Address of Kubeflow Pipelines' UI or API server.",
        ),
    ):
        command = option(command)
    return command


@contextmanager
def connected(endpoint: str | None, forwarded: str | None, namespace: str) -> Iterator["Endpoint"]:
    """The endpoint that the options name.

    Raises:
        UserError: see :class:`dkd.kubeflow.client.Endpoint`.
    """
    from dkd.kubeflow.client import Endpoint
    from dkd.kubeflow.port_forward import port_forward

    if forwarded is None:
        yield Endpoint(endpoint, namespace)
        return
    if endpoint:
        raise UserError("--port-forward: leave out --endpoint")
    with port_forward(forwarded) as url:
        yield Endpoint(url, namespace)
