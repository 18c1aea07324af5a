"""Names that this project makes, and those it accepts for classes and runs."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence

from dkd.errors import UserError

BACKGROUND_NAME = "background"
"""Name of channel 0, which no class bears."""

MODEL_NAME = r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?"
"""What a model's name looks like."""

_LONGEST_CLASS = 100  # characters
# Categories of characters that no name holds: they end lines, move a cursor or cannot be seen.
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"  # which some scripts cannot do without
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


def check_model_name(name: str) -> str:
    """The name, if a model can have it: it becomes a folder, and part of addresses.

    Raises:
        UserError: it holds other than lower-case letters, digits, dots and dashes inside.
    """
    if not re.fullmatch(MODEL_NAME, name):
        raise UserError(
            f"model name {name!r}: must be 1 to 63 lower-case letters, digits, dots and dashes, "
            "with a letter or digit at both ends"
        )
    return name


def class_name(text: str) -> str:
    """A class's name as it is kept and compared: in NFC, without spaces around it.

    Raises:
        UserError: it is empty or too long, holds what cannot be seen, or is background's.
    """
    name = unicodedata.normalize("NFC", text).strip()
    if not name:
        raise UserError("a class's name is empty; give it one")
    if any(unicodedata.category(c) in _UNSEEN and c not in _JOINERS for c in name):
        raise UserError(f"class {name!a}: a name is one line of visible characters")
    if len(name) > _LONGEST_CLASS:
        raise UserError(f"class {name[:30]!r}...: a name has at most {_LONGEST_CLASS} characters")
    if name.casefold() == BACKGROUND_NAME:
        raise UserError(
            f"class {name!r}: background is label value 0 of every mask, not a class; leave it "
            "out or give the class another name"
        )
    return name


def alike(name: str) -> str:
    """What a person sees of a name: equal for names that differ in Unicode's compatibility forms,
    in upper and lower case or in spaces, as ``Dog`` and ``dog`` do.
    """
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _short_digest(document: object) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]
