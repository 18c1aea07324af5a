"""``dkd doctor``."""

import os
import sys

import click

from dkd.cli import options, tables

_MARKS = {"well": "", "warning": "! ", "bad": "!! "}


@click.command("doctor")
@options.root
def command(root: str | None) -> None:
    """Show what this machine or container has: versions, GPUs, NCCL, S3, shared memory.

    With --root, it also writes, reads and deletes a small object there. The exit status is 1 if
    something would keep a step from running; such lines are marked with !!.
    """
    from dkd.worker import doctor

    os.environ.setdefault("DKD_S3_GIVE_UP_SECONDS", "15")  # somebody is looking on
    findings = doctor.examine(root)
    rows = [(each.name, _MARKS[each.state] + each.text) for each in findings]
    for line in tables.lines(rows, header=False):
        click.echo(line)
    if any(each.state == "bad" for each in findings):
        sys.exit(1)
