"""Results of runs as tables and as one self-contained HTML page."""

from dkd.report.changes import Changes, ClassChange, gained_and_forgotten
from dkd.report.page import render
from dkd.report.results import RunResult, Scores, StepResult
from dkd.report.tables import markdown_table, table

__all__ = [
    "Changes",
    "ClassChange",
    "RunResult",
    "Scores",
    "StepResult",
    "gained_and_forgotten",
    "markdown_table",
    "render",
    "table",
]
