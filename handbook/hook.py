"""MkDocs hook: puts the generated parts into their pages, and what the theme leaves out for those
who use a keyboard or a screen reader.

A line ``<!-- generated: NAME -->`` of a page becomes what :data:`PARTS` names.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from handbook import (  # noqa: E402 - found by the lines above
    artifact_formats,
    commands,
    form_fields,
    lists,
    python_interface,
    scenario_fields,
)

PARTS: dict[str, Callable[[], str]] = {
    "artifacts by kind": artifact_formats.kinds,
    "backbones": lists.backbone_table,
    "commands": commands.page,
    "documents by version": artifact_formats.versions,
    "form of a scenario": form_fields.incremental,
    "form of add-classes": form_fields.extension,
    "method options": lists.method_options,
    "methods": lists.method_table,
    "published figures": lists.published_figures,
    "python interface": python_interface.page,
    "scenario fields": scenario_fields.page,
}
AMENDED = (
    (r'role="dialog"', r'\g<0> aria-label="Search"'),
    # A section with a page of its own is named by an arrow alone; its title on narrow screens says.
    (r'aria-labelledby="(__nav_\w+)_label"', r'aria-labelledby="\1_title"'),
    (r'<label class="md-nav__title" for="(__nav_\w+)"', r'\g<0> id="\1_title"'),
    (r'(<label [^>]*id="(__nav_\w+)_label")', r'\1 aria-labelledby="\2_title"'),
    (r"<th></th>", "<td></td>"),
)
"""What the theme leaves out, as patterns and what is put in their place."""

MARKER = re.compile(r"^<!-- generated: (.+?) -->$", re.M)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs with each page's text; returns it with the parts that it asks for.

    Raises:
        KeyError: it asks for one that there is not.
    """
    return MARKER.sub(lambda found: PARTS[found[1]](), markdown)


def on_post_page(output: str, **_: Any) -> str:
    """Called by MkDocs with each page as HTML; returns it with :data:`AMENDED`."""
    for pattern, instead in AMENDED:
        output = re.sub(pattern, instead, output)
    return output
