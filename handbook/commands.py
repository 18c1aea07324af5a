"""Every command, from the command line's own definition."""

import inspect
import re
from collections.abc import Iterator

import click

from dkd.cli import main
from handbook import prose


def commands(
    group: click.Group = main, context: click.Context | None = None
) -> Iterator[tuple[click.Command, click.Context]]:
    """All commands, a group before those in it, each with the context that knows its full name."""
    context = context or click.Context(group, info_name="dkd")
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        inner = click.Context(command, info_name=name, parent=context)
        yield command, inner
        if isinstance(command, click.Group):
            yield from commands(command, inner)


def page() -> str:
    """A section for each command: usage, help and options."""
    return "\n\n".join(section(command, context) for command, context in commands())


def section(command: click.Command, context: click.Context) -> str:
    """A command as Markdown."""
    path = context.command_path
    usage = command.get_usage(context).removeprefix("Usage: ")
    parts = [f"{'#' * (path.count(' ') + 1)} {path}", code(usage), help_text(command.help or "")]
    records = [
        record
        for parameter in command.params
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context))
    ]
    if records:
        rows = [[f"`{names}`", prose.sentence(told)] for names, told in records]
        parts.append(prose.table(["Option", "Meaning"], rows))
    return "\n\n".join(filter(None, parts))


def help_text(text: str) -> str:
    """A help text as Markdown: what click leaves as it is written is a block of code."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return "\n\n".join(
        code(paragraph.removeprefix("\b\n")) if paragraph.startswith("\b") else rewrapped(paragraph)
        for paragraph in paragraphs
    )


def rewrapped(paragraph: str) -> str:
    """A paragraph of a help text; ``<``, ``*`` and the like mean nothing there."""
    return re.sub(r"(?<!`)([<*_\[\]])(?![^`]*`)", r"\\\1", prose.markdown(paragraph))


def code(text: str) -> str:
    """A block of code."""
    return f"```text\n{text}\n```"
