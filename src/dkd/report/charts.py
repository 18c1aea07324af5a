"""Line charts as inline SVG, drawn by hand: crisp, coloured by the page's style sheet."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

LABEL_HEIGHT = 14.0
MARKS = 4


@dataclass(frozen=True)
class Point:
    """A value at a place, with its deviation over seeds and what is said on hovering."""

    x: float
    y: float
    deviation: float = 0.0
    title: str = ""


@dataclass(frozen=True)
class Series:
    """A line.

    Attributes:
        label: its name.
        look: number of its colour and mark; None draws the bound, a dashed grey line that
            spans the chart at the height of its only point.
        points: by increasing x.
    """

    label: str
    look: int | None
    points: tuple[Point, ...]


@dataclass(frozen=True)
class PlotArea:
    """The plotted rectangle of an SVG and the ranges of values that it spans.

    ``left``, ``top``, ``width``, ``height`` are user units of the SVG, whose y axis points
    down. ``log`` makes the y axis logarithmic (``y0`` and ``y1`` are then positive).
    """

    left: float
    top: float
    width: float
    height: float
    x0: float
    x1: float
    y0: float
    y1: float
    log: bool = False

    def x(self, value: float) -> float:
        """Abscissa of a value; the middle if the range is empty."""
        if self.x1 == self.x0:
            return self.left + self.width / 2
        return self.left + self.width * (value - self.x0) / (self.x1 - self.x0)

    def y(self, value: float) -> float:
        """Ordinate of a value; clipped to the rectangle."""
        low, high = self.y0, self.y1
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        share = (value - low) / (high - low)
        return self.top + self.height * (1 - min(max(share, 0.0), 1.0))

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height


def number(value: float) -> str:
    """A coordinate with at most one decimal."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def ceiling(highest: float) -> float:
    """The axis' upper end, in percent: a multiple of 10 (of 2 under 10), at most 100."""
    unit = 10 if highest > 10 else 2
    return min(max(unit * math.ceil(highest / unit), unit), 100)


def ticks(upper: float) -> tuple[float, ...]:
    """Four to six even numbers from 0 to at most ``upper``."""
    unit = next(u for u in (0.5, 1, 2, 5, 10, 20, 25) if upper / u <= 5)
    return tuple(i * unit for i in range(int(upper / unit) + 1))


def log_ticks(low: float, high: float) -> tuple[float, ...]:
    """1, 2 and 5 times powers of ten within the range; powers alone if that is more than six."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)

    def within(factors: Sequence[int]) -> tuple[float, ...]:
        values = (factor * 10.0**power for power in powers for factor in factors)
        return tuple(v for v in values if low <= v * (1 + 1e-9) and v <= high * (1 + 1e-9))

    fine = within((1, 2, 5))
    return fine if len(fine) <= 6 else within((1,))


def spread(wanted: Sequence[float], distance: float, low: float, high: float) -> list[float]:
    """Positions near the wanted ones that keep a distance from each other and stay in a range.

    Args:
        wanted: in any order; the result has the same order.
        distance: between neighbours; reduced if the range has no room for it.
        low: end of the range.
        high: other end of the range.
    """
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    if len(order) > 1:
        distance = min(distance, (high - low) / (len(order) - 1))
    placed: list[float] = []
    for i in order:
        at_least = placed[-1] + distance if placed else low
        placed.append(max(wanted[i], at_least))
    limit = high
    for i in range(len(placed) - 1, -1, -1):
        placed[i] = min(placed[i], limit)
        limit = placed[i] - distance
    result = [0.0] * len(wanted)
    for i, position in zip(order, placed, strict=True):
        result[i] = position
    return result


def score_chart(
    series: Sequence[Series],
    steps: Sequence[int],
    upper: float,
    name: str,
    size: tuple[int, int] = (480, 260),
) -> Markup:
    """Scores in percent over the steps, labelled at the lines' ends.

    Args:
        series: lines; a series without points is left out.
        steps: the abscissa, at least two.
        upper: end of the ordinate, which starts at 0.
        name: accessible name of the drawing.
        size: of the drawing in user units.
    """
    width, height = size
    shown = [line for line in series if line.points]
    frame = PlotArea(34, 10, width - 34 - 118, height - 10 - 36, steps[0], steps[-1], 0, upper)
    ends = [frame.y(line.points[-1].y) for line in shown]
    labels = spread(ends, LABEL_HEIGHT, frame.top + 4, frame.bottom)
    parts = [_grid(frame, ticks(upper), "g"), _steps_axis(frame, steps)]
    parts += [_line(frame, line) for line in shown]
    for line, end, position in zip(shown, ends, labels, strict=True):
        start = frame.right if line.look is None else frame.x(line.points[-1].x)
        parts.append(
            Markup(
                '<path class="lead-in {}" d="M{} {}L{} {}"/>'
                '<text class="end {}" x="{}" y="{}"><tspan class="v">{}</tspan> {}</text>'
            ).format(
                look_class(line.look),
                number(start + 6),
                number(end),
                number(frame.right + 14),
                number(position),
                look_class(line.look),
                number(frame.right + 17),
                number(position + 4),
                f"{line.points[-1].y:.1f}",
                shortened(line.label, 11),
            )
        )
    return _svg(width, height, name, parts)


def small_chart(
    series: Sequence[Series],
    steps: Sequence[int],
    name: str,
    size: tuple[int, int] = (150, 64),
) -> Markup:
    """One class's IoU over the steps, 0 to 100 percent; lines are marked at their ends only."""
    width, height = size
    frame = PlotArea(7, 6, width - 14, height - 12, steps[0], steps[-1], 0, 100)
    parts = [_grid(frame, (0, 50, 100), None)]
    parts += [_plain_line(frame, line) for line in series if line.points]
    return _svg(width, height, name, parts)


def loss_chart(
    series: Sequence[Series],
    name: str,
    size: tuple[int, int] = (300, 190),
) -> Markup:
    """Loss terms over the iterations on a logarithmic axis.

    A series may have points that are not positive: they lie on the lower edge.
    """
    width, height = size
    points = [point for line in series for point in line.points]
    values = [point.y for point in points if point.y > 0] or [1.0]
    last = max((point.x for point in points), default=1.0)
    # Four decades tell the story; a term that falls below lies on the edge.
    high = max(values) * 1.1
    low = max(min(values) / 1.1, high / 1e4)
    frame = PlotArea(40, 8, width - 52, height - 8 - 30, 0, last, low, high, log=True)
    parts = [_grid(frame, log_ticks(low, high), "g")]
    for value in (0.0, last):
        anchor = "start" if value == 0 else "end"
        parts.append(
            Markup('<text class="tick" x="{}" y="{}" text-anchor="{}">{}</text>').format(
                number(frame.x(value)), number(frame.bottom + 16), anchor, f"{value:,.0f}"
            )
        )
    parts.append(
        Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">iteration</text>').format(
            number(frame.left + frame.width / 2), number(frame.bottom + 16)
        )
    )
    for line in series:
        path = _path((frame.x(p.x), frame.y(p.y)) for p in line.points)
        parts.append(
            Markup('<path class="line {}" d="{}"><title>{}</title></path>').format(
                look_class(line.look), path, line.label
            )
        )
    return _svg(width, height, name, parts)


def mark(look: int | None, x: float, y: float, title: str = "", radius: float = 3.5) -> Markup:
    """A mark: its shape tells series apart where colours do not."""
    r = radius
    x, y = round(x, 1), round(y, 1)
    shapes = (
        f"M{number(x - r)} {number(y)}a{r} {r} 0 1 0 {number(2 * r)} 0"
        f"a{r} {r} 0 1 0 {number(-2 * r)} 0z",
        f"M{number(x - r)} {number(y - r)}h{number(2 * r)}v{number(2 * r)}h{number(-2 * r)}z",
        f"M{number(x)} {number(y - 1.3 * r)}l{number(1.25 * r)} {number(2.2 * r)}"
        f"h{number(-2.5 * r)}z",
        f"M{number(x)} {number(y - 1.4 * r)}l{number(1.4 * r)} {number(1.4 * r)}"
        f"l{number(-1.4 * r)} {number(1.4 * r)}l{number(-1.4 * r)} {number(-1.4 * r)}z",
    )
    inner = Markup("<title>{}</title>").format(title) if title else Markup("")
    shape = shapes[(look or 0) % MARKS]
    return Markup('<path class="mark {}" d="{}">{}</path>').format(look_class(look), shape, inner)


def key(look: int | None) -> Markup:
    """The sample of a line that stands in a legend."""
    path = Markup('<path class="line {}" d="M1 7H25"/>').format(look_class(look))
    middle = Markup("") if look is None else mark(look, 13, 7)
    return Markup('<svg class="key" viewBox="0 0 26 14" aria-hidden="true">{}{}</svg>').format(
        path, middle
    )


def shortened(text: str, most: int) -> str:
    """At most ``most`` characters, the last an ellipsis if something was cut off."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def look_class(look: int | None) -> str:
    """Class of the style sheet that gives a series its colour."""
    return "bound" if look is None else f"s{look % 8}"


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)


def _svg(width: int, height: int, name: str, parts: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" width="{}" height="{}" role="img" '
        'aria-label="{}">{}</svg>'
    ).format(width, height, width, height, name, Markup("").join(parts))


def _grid(frame: PlotArea, values: Sequence[float], labels: str | None) -> Markup:
    parts = []
    for value in values:
        y = number(frame.y(value))
        parts.append(
            Markup('<path class="grid" d="M{} {}H{}"/>').format(
                number(frame.left), y, number(frame.right)
            )
        )
        if labels is not None:
            parts.append(
                Markup('<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>').format(
                    number(frame.left - 6), number(frame.y(value) + 4), f"{value:{labels}}"
                )
            )
    return Markup("").join(parts)


def _steps_axis(frame: PlotArea, steps: Sequence[int]) -> Markup:
    parts = [
        Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>').format(
            number(frame.x(step)), number(frame.bottom + 16), step
        )
        for step in steps
    ]
    parts.append(
        Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">step</text>').format(
            number(frame.left + frame.width / 2), number(frame.bottom + 32)
        )
    )
    return Markup("").join(parts)


def _line(frame: PlotArea, line: Series) -> Markup:
    look = look_class(line.look)
    if line.look is None:
        return _bound(frame, line, line.points[-1].title)
    parts = []
    if any(point.deviation for point in line.points):
        above = [(frame.x(p.x), frame.y(p.y + p.deviation)) for p in line.points]
        below = [(frame.x(p.x), frame.y(p.y - p.deviation)) for p in reversed(line.points)]
        parts.append(
            Markup('<path class="band {}" d="{}z"/>').format(look, _path([*above, *below]))
        )
    path = _path((frame.x(p.x), frame.y(p.y)) for p in line.points)
    parts.append(Markup('<path class="line {}" d="{}"/>').format(look, path))
    parts += [mark(line.look, frame.x(p.x), frame.y(p.y), p.title) for p in line.points]
    return Markup("").join(parts)


def _plain_line(frame: PlotArea, line: Series) -> Markup:
    title = f"{line.label}: {' '.join(f'{point.y:.0f}' for point in line.points)}"
    if line.look is None:
        return _bound(frame, line, title)
    places = [(frame.x(point.x), frame.y(point.y)) for point in line.points]
    return Markup('<path class="line {}" d="{}"><title>{}</title></path>{}').format(
        look_class(line.look), _path(places), title, mark(line.look, *places[-1], title, 2.4)
    )


def _bound(frame: PlotArea, line: Series, title: str) -> Markup:
    return Markup('<path class="line {}" d="M{} {}H{}"><title>{}</title></path>').format(
        look_class(None),
        number(frame.left),
        number(frame.y(line.points[-1].y)),
        number(frame.right),
        title,
    )
