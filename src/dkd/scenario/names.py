"""Names that this project makes, and those it accepts for runs."""

import hashlib
import json
import re
from collections.abc import Sequence

from dkd.errors import UserError

_READABLE = 24  # letters of the class names in an extension's name
_LONGEST = 128


def slug(*parts: str) -> str:
    """Parts as one name of a run, file or pipeline: lower case, digits, dots and dashes.

    Letters of other scripts have no place in it. So that names which differ stay different, one
    that loses such letters ends in eight digits of a digest of what it was.
    """
    joined = "-".join(part for part in parts if part).lower()
    lost = any(letter.isalnum() and not letter.isascii() for letter in joined)
    readable = re.sub(r"[^a-z0-9.]+", "-", joined).strip("-.")
    return "-".join(filter(None, (readable, _short_digest(joined)))) if lost else readable


def of_extension(classes: Sequence[str], teacher: str) -> str:
    """What adding classes to a teacher is called, e.g. ``add-sheep-d2a161ac``.

    Args:
        classes: names of the new classes.
        teacher: its URI or digest: extensions of two teachers have two names.
    """
    readable = re.sub(r"[^a-z0-9]+", "-", "-".join(classes).lower())[:_READABLE].strip("-")
    return "-".join(filter(None, ("add", readable, _short_digest([teacher, list(classes)]))))


def check_run_name(name: str) -> str:
    """The name, if a run can have it: it becomes a folder under the artifact root.

    Raises:
        UserError: it is empty, too long, begins with a dot, or holds a slash or what is not shown.
    """
    wrong = not name or name != name.strip() or name.startswith(".") or not name.isprintable()
    if wrong or "/" in name or "\\" in name or len(name.encode()) > _LONGEST:
        raise UserError(
            f"run name {name!r}: must be 1 to {_LONGEST} bytes of letters, digits and signs other "
            "than slashes, and not begin with a dot"
        )
    return name


def _short_digest(document: object) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]
