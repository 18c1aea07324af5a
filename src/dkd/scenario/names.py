"""Names that this project makes."""

import re


def slug(*parts: str) -> str:
    """Parts as one name of a run, file or pipeline: lower case, digits, dots and dashes."""
    joined = "-".join(part for part in parts if part).lower()
    return re.sub(r"[^a-z0-9.]+", "-", joined).strip("-.")
