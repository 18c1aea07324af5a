"""Heat maps: every class after every step, and which classes are taken for which."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from dkd.report.charts import number, shortened
from dkd.report.comparison import Comparison, Variant
from dkd.report.model import StepResult

MATRIX_MOST = 31
"""Channels up to which a confusion matrix is drawn; beyond, the top confusions are listed."""

DENSE_COLUMNS = 20
"""Columns of steps from which on the heat map shows colours without figures."""

DENSE_ROWS = 60


@dataclass(frozen=True)
class Cell:
    """IoU of a class after a step, in percent; None before the class arrives."""

    value: float | None
    known: bool


@dataclass(frozen=True)
class ClassRow:
    """One class: its cells by variant and step, and what it lost since it was first scored.

    Attributes:
        channel: of the class.
        step: at which it arrives.
        first: whether it is the first of its step.
        cells: by variant.
        changes: by variant, last less first IoU in points; None where there is just one.
    """

    channel: int
    step: int
    first: bool
    cells: tuple[tuple[Cell, ...], ...]
    changes: tuple[float | None, ...]


@dataclass(frozen=True)
class ClassMap:
    """The heat map's rows; ``dense`` if there is no room for figures in the cells."""

    rows: tuple[ClassRow, ...]
    dense: bool


def class_map(comparison: Comparison) -> ClassMap:
    """IoU of background and every class, by variant and step (means over seeds)."""
    rows = []
    for channel in range(len(comparison.run.channels)):
        step = comparison.step_of(channel - 1) if channel else 0
        cells = tuple(_cells(variant, channel) for variant in comparison.variants)
        rows.append(
            ClassRow(
                channel,
                step,
                first=channel <= 1 or step != comparison.step_of(channel - 2),
                cells=cells,
                changes=tuple(_change(of_variant) for of_variant in cells),
            )
        )
    columns = sum(len(variant.steps) for variant in comparison.variants)
    return ClassMap(tuple(rows), dense=columns > DENSE_COLUMNS or len(rows) > DENSE_ROWS)


def _cells(variant: Variant, channel: int) -> tuple[Cell, ...]:
    cells = []
    for step in variant.steps:
        known = any(channel < len(found.scores.iou) for found in variant.at(step))
        score = variant.iou(channel, step)
        cells.append(Cell(score.mean if score else None, known))
    return tuple(cells)


def _change(cells: Sequence[Cell]) -> float | None:
    values = [cell.value for cell in cells if cell.known]
    if len(values) < 2 or values[0] is None or values[-1] is None:
        return None
    return values[-1] - values[0]


@dataclass(frozen=True)
class Confusion:
    """Pixels of one class taken for another: their number and share of the class's, percent."""

    truth: str
    prediction: str
    pixels: int
    share: float


def shares(confusion: Sequence[Sequence[int]]) -> npt.NDArray[np.float64]:
    """Each row in percent of its sum; a class without pixels is a row of zeros. Float64."""
    counts = np.asarray(confusion, dtype=np.float64)
    sums = counts.sum(axis=1, keepdims=True)
    percent = np.zeros_like(counts)
    np.divide(100 * counts, sums, out=percent, where=sums > 0)
    return percent


def top_confusions(step: StepResult, channels: Sequence[str], most: int) -> tuple[Confusion, ...]:
    """The largest shares of a class's pixels that went to one other class, largest first.

    Args:
        step: with a confusion matrix.
        channels: names by channel.
        most: number of confusions; those under half a percent are left out.
    """
    percent = shares(step.confusion)
    np.fill_diagonal(percent, 0.0)
    order = np.argsort(-percent, axis=None, kind="stable")[:most]
    found = []
    for row, column in zip(*np.unravel_index(order, percent.shape), strict=True):
        if percent[row, column] >= 0.5:
            pixels = step.confusion[row][column]
            share = float(percent[row, column])
            found.append(Confusion(channels[row], channels[column], pixels, share))
    return tuple(found)


_LEFT, _TOP, _GAP = 112.0, 104.0, 1.0  # room for the names, and between cells


def confusion_chart(step: StepResult, channels: Sequence[str], name: str) -> Markup:
    """The confusion matrix as SVG: rows truth, columns prediction, shade the share of the row.

    Args:
        step: with a confusion matrix.
        channels: names by channel.
        name: accessible name of the drawing.
    """
    percent = shares(step.confusion)
    count = len(percent)
    side = min(max(520 / count, 15), 46)
    width, height = _LEFT + count * side + 8, _TOP + count * side + 8
    parts = [
        Markup(
            '<text class="axis" x="{}" y="12" text-anchor="middle">predicted</text>'
            '<text class="axis" transform="translate(10 {}) rotate(-90)" '
            'text-anchor="middle">truth</text>'
        ).format(number(_LEFT + count * side / 2), number(_TOP + count * side / 2))
    ]
    parts += [_ticks(channel, (at + 0.5) * side) for at, channel in enumerate(channels[:count])]
    parts += [
        _cell(float(percent[row, column]), (row, column), side, channels)
        for row in range(count)
        for column in range(count)
    ]
    return Markup(
        '<svg class="matrix" viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img" '
        'aria-label="{2}">{3}</svg>'
    ).format(number(width), number(height), name, Markup("").join(parts))


def _ticks(name: str, middle: float) -> Markup:
    """A channel's name beside its row and above its column, whose middle is so far in."""
    short = shortened(name, 13)
    return Markup(
        '<text class="tick" x="{}" y="{}" text-anchor="end">{}<title>{}</title></text>'
        '<text class="tick" transform="translate({} {}) rotate(-90)">{}<title>{}</title></text>'
    ).format(
        *(number(_LEFT - 6), number(_TOP + middle + 4), short, name),
        *(number(_LEFT + middle + 4), number(_TOP - 6), short, name),
    )


def _cell(share: float, at: tuple[int, int], side: float, channels: Sequence[str]) -> Markup:
    """A cell of the matrix, with its share (percent of its row) where there is room for it."""
    row, column = at
    x, y = _LEFT + column * side, _TOP + row * side
    drawn = Markup(
        '<rect class="cell{}" x="{}" y="{}" width="{}" height="{}" '
        'style="--v:{:.0f}"><title>{}</title></rect>'
    ).format(
        " own" if row == column else "",
        *(number(x), number(y), number(side - _GAP), number(side - _GAP)),
        share,
        f"{channels[row]} → {channels[column]}: {share:.1f} %",
    )
    if side >= 26 and share >= 0.5:
        drawn += Markup('<text class="in{}" x="{}" y="{}">{:.0f}</text>').format(
            " hot" if share >= 60 else "",
            *(number(x + side / 2 - 0.5), number(y + side / 2 + 4)),
            share,
        )
    return drawn
