"""The report: one HTML file that needs no network, no script and no other file."""

from collections.abc import Sequence
from importlib.resources import files

import jinja2
from markupsafe import Markup, escape

from dkd.report import overview, panels
from dkd.report.changes import ends, percent, points
from dkd.report.charts import key, look_class
from dkd.report.comparison import compare
from dkd.report.matrices import class_map
from dkd.report.model import Colour, RunResult

FOLDED_CLASSES = 30
"""Classes of a step up to which they are listed openly; more are folded away."""

DIGEST_SHOWN = 12


def render(runs: Sequence[RunResult], title: str) -> str:
    """The report of one run or of several that are to be compared.

    Runs that share a variant's label are taken for its seeds: scores are then mean ± sample
    standard deviation, pictures and curves are those of the lowest seed. The same input gives
    the same page.

    Args:
        runs: of one task, in the order in which variants are to stand.
        title: of the page.

    Returns:
        HTML, self-contained: pictures are data URIs, the style sheet is inside, no script.

    Raises:
        UserError: there is no run, the runs are not of one task, or a picture is broken.
    """
    comparison = compare(runs)
    folder = files("dkd.report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        percent=percent,
        ends=ends,
        points=lambda value: points(value).replace("-", "−"),
        duration=duration,
        digest=digest,
        colour=colour,
        key=key,
        look=look_class,
        stages=panels.stages,
    )
    template = environment.from_string((folder / "report.html.j2").read_text(encoding="utf-8"))
    style = (folder / "report.css").read_text(encoding="utf-8")
    return template.render(
        title=title,
        style=Markup(style),  # noqa: S704 -- the project's own file
        comparison=comparison,
        run=comparison.run,
        looks=overview.looks(comparison),
        columns=overview.COLUMNS,
        headline=overview.headline(comparison),
        summary=overview.summary(comparison),
        charts=overview.score_charts(comparison),
        class_map=class_map(comparison),
        class_curves=overview.class_curves(comparison),
        gallery=overview.gallery(comparison),
        panels=panels.panels(comparison),
        chosen=comparison.variants.index(comparison.best),
        folded=FOLDED_CLASSES,
    )


def duration(seconds: float) -> str:
    """``4.2 s``, ``1 min 5 s`` or ``2 h 3 min``."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def digest(value: str) -> Markup:
    """The first characters of a digest, the whole on hovering."""
    short = value.removeprefix("sha256:")[:DIGEST_SHOWN]
    return Markup('<code class="digest" title="{}">{}</code>').format(value, short)


def colour(value: Colour) -> str:
    """As CSS writes it."""
    return "#{:02x}{:02x}{:02x}".format(*value)


def shows(page: str, image: str) -> bool:
    """Whether a page that :func:`render` made shows an image of this id."""
    return any(f'alt="{kind} {escape(image)}"' in page for kind in ("image", "exemplar"))
