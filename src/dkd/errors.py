"""Errors a person can act on."""


class UserError(Exception):
    """Bad input or a failed environment, told in one line.

    The message names the file, field or object and says what to do. The command line prints
    it as ``dkd: <message>`` and exits with status 2; nothing half-written is left behind.
    """


class NewerFormat(UserError):  # noqa: N818 - says what was found
    """Something was written by a version of the program that this one comes before."""


def require_known_format(found: object, known: int, source: str) -> None:
    """Checks the number of the format that a document says it has, before anything else of it.

    Older formats go on being read. What is no number is left to whoever reads the document.

    Args:
        found: as the document says.
        known: the highest that this program reads.
        source: what it is, for the message.

    Raises:
        NewerFormat: it is higher.
    """
    if isinstance(found, int) and found > known:
        raise NewerFormat(
            f"{source}: has format {found}, written by a newer version of dkd; this one reads up "
            f"to format {known}: use the newer version"
        )


def one_line(text: str) -> str:
    """A message that repeats what somebody wrote: what would end its line, move a cursor or could
    not be printed stands there as Python writes it.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
