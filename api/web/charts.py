"""Charts as plain numbers: what templates/charts.html draws as SVG, without a script. Pure.

Across, everything is in percent of the width, so that a chart fits any screen and its text keeps its size; down, in
pixels. At most `MOST_SERIES` series have a colour of their own, in the order given (the largest first); what is beyond
them is summed up as "Other". What is below zero is not drawn, but stands in the table under the chart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from api.web import formats

MOST_SERIES = 7
#: Above is room for what the pointer is on.
PLOT_TOP, PLOT_HEIGHT = 24, 190
_BASELINE = PLOT_TOP + PLOT_HEIGHT
#: Room for the labels below.
HEIGHT = _BASELINE + 26
_MOST_LABELS = 8
_BAR_SHARE = 0.74
_WIDEST_BAR = 6.0
_TICKS = 4
_DENSE = 45
#: A run that cost next to nothing is still seen, and can be clicked.
_LEAST_PIXELS = 1.0


@dataclass(frozen=True, slots=True)
class Unit:
    """How the values of a chart are written. `bases`: what a tick may be round in, smallest first, each as
    (size, divisor shown, suffix)."""

    text: Callable[[int], str]
    bases: tuple[tuple[int, int, str], ...]
    prefix: str = ""


MONEY = Unit(formats.money, ((1, formats.NANOS, ""), (1000 * formats.NANOS, 1000 * formats.NANOS, "k")), "$")
COUNT = Unit(formats.count, ((1, 1, ""), (1000, 1000, "k"), (1_000_000, 1_000_000, "M")))
DURATION = Unit(
    formats.duration,
    (
        (1, formats.MICROS, "\N{NARROW NO-BREAK SPACE}s"),
        (60 * formats.MICROS, 60 * formats.MICROS, "\N{NARROW NO-BREAK SPACE}m"),
        (3600 * formats.MICROS, 3600 * formats.MICROS, "\N{NARROW NO-BREAK SPACE}h"),
    ),
)


@dataclass(frozen=True, slots=True)
class Column:
    """One bar: a day, say. `label` stands below it, `name` in its tooltip and in the table."""

    label: str
    name: str
    href: str | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """One colour. `values`: one for each column. `hrefs`: where each of its segments leads."""

    name: str
    values: Sequence[int]
    hrefs: Sequence[str | None] | None = None
    href: str | None = None
    """Where its name in the legend leads."""


@dataclass(frozen=True, slots=True)
class Segment:
    shade: int
    y: str
    height: str
    title: str
    href: str | None


@dataclass(frozen=True, slots=True)
class Bar:
    x: str
    width: str
    middle: str
    column: Column
    label: str | None
    is_spare: bool
    """Its label is the first to go where there is little room."""
    total: str
    segments: list[Segment]


@dataclass(frozen=True, slots=True)
class Tick:
    y: str
    label: str


@dataclass(frozen=True, slots=True)
class Entry:
    """Of the legend, and a row of the table."""

    shade: int
    name: str
    href: str | None
    total: str
    values: list[str]


@dataclass(frozen=True, slots=True)
class StackedBars:
    title: str
    description: str
    is_empty: bool
    bars: list[Bar]
    ticks: list[Tick]
    legend: list[Entry]
    total: str
    is_dense: bool
    """Bars are so narrow that the gaps between their segments would eat them."""
    height: int = HEIGHT
    baseline: int = _BASELINE


def stacked_bars(title: str, columns: Sequence[Column], series: Sequence[Series], unit: Unit = MONEY) -> StackedBars:
    """`series` as they are to be stacked, the first at the bottom."""
    shown = _shaded(series, len(columns))
    totals = [sum(max(0, each.values[index]) for _, each in shown) for index in range(len(columns))]
    step, top = _scale(max(totals, default=0), unit)
    bars = [_bar(index, column, shown, totals[index], top, unit, len(columns)) for index, column in enumerate(columns)]
    total = unit.text(sum(sum(each.values) for _, each in shown))
    span = f", {columns[0].name} to {columns[-1].name}" if columns else ""
    return StackedBars(
        title=title,
        description=f"{title}{span}: {total} altogether.",
        is_empty=not any(totals),
        bars=bars,
        ticks=[Tick(_pixels(_y(value, top)), _tick(value, step, unit)) for value in range(0, top + 1, step)],
        legend=[
            Entry(shade, each.name, each.href, unit.text(sum(each.values)), [unit.text(value) for value in each.values])
            for shade, each in shown
        ],
        total=total,
        is_dense=len(columns) > _DENSE,
    )


def _shaded(series: Sequence[Series], columns: int) -> list[tuple[int, Series]]:
    """Each with the number of its colour; 0 is that of what is summed up."""
    if len(series) <= MOST_SERIES:
        return list(enumerate(series, 1))
    rest = series[MOST_SERIES - 1 :]
    values = [sum(each.values[index] for each in rest) for index in range(columns)]
    return [*enumerate(series[: MOST_SERIES - 1], 1), (0, Series(f"Other ({len(rest)})", values))]


def _bar(
    index: int, column: Column, series: Sequence[tuple[int, Series]], total: int, top: int, unit: Unit, of: int
) -> Bar:
    room = 100 / of
    width = min(room * _BAR_SHARE, _WIDEST_BAR)
    middle = room * (index + 0.5)
    # From the newest back, so that today has its label.
    label, rest = divmod(of - 1 - index, max(1, ceil(of / _MOST_LABELS)))
    segments, below = [], 0
    for shade, each in series:
        value = each.values[index]
        if value > 0:
            height = max(_LEAST_PIXELS, _y(below, top) - _y(below + value, top))
            title = f"{each.name}, {column.name}: {unit.text(value)}"
            href = each.hrefs[index] if each.hrefs else None
            segments.append(Segment(shade, _pixels(_y(below, top) - height), _pixels(height), title, href))
            below += value
    return Bar(
        x=_percent(middle - width / 2),
        width=_percent(width),
        middle=_percent(middle),
        column=column,
        label=None if rest else column.label,
        is_spare=label % 2 == 1,
        total=unit.text(total),
        segments=segments,
    )


def _scale(largest: int, unit: Unit) -> tuple[int, int]:
    """The distance of the ticks, and the value of the uppermost."""
    step = _round_step(max(largest, 1) / _TICKS, unit)
    return step, step * max(1, ceil(largest / step))


def _round_step(wanted: float, unit: Unit) -> int:
    base = next((size for size, *_ in reversed(unit.bases) if wanted >= size), unit.bases[0][0])
    power = 10 ** floor(log10(max(wanted / base, 1)))
    factor = next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power * base >= wanted * 0.999)
    return max(1, round(factor * power * base))


def _tick(value: int, step: int, unit: Unit) -> str:
    _, divisor, suffix = next(
        (base for base in reversed(unit.bases) if step >= base[0]),
        unit.bases[0],
    )
    if not value:
        return f"{unit.prefix}0"
    fraction = f"{step / divisor:.9f}".rstrip("0").partition(".")[2]
    decimals = len(fraction) if not unit.prefix or not fraction or suffix else max(2, len(fraction))
    return f"{unit.prefix}{value / divisor:,.{decimals}f}{suffix}"


def _y(value: int, top: int) -> float:
    return _BASELINE - PLOT_HEIGHT * value / top


def _pixels(value: float) -> str:
    return f"{value:.1f}"


def _percent(value: float) -> str:
    return f"{value:.3f}%"


# --- smaller ones ---


def sparkline(values: Sequence[int]) -> str:
    """The points of a line in a box of 100 by 28."""
    if len(values) < 2:
        return ""
    low, high = min(0, *values), max(*values, 1)
    return " ".join(
        f"{100 * index / (len(values) - 1):.1f},{26 - 24 * (value - low) / (high - low):.1f}"
        for index, value in enumerate(values)
    )


@dataclass(frozen=True, slots=True)
class Item:
    """A row of a bar list. `note`: what stands small beside its name."""

    name: str
    value: int
    href: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class BarListRow:
    item: Item
    text: str
    width: str
    share: str


def bar_list(items: Sequence[Item], unit: Unit = MONEY, whole: int | None = None) -> list[BarListRow]:
    """Bars against the largest, shares of the `whole`: of all these, if it is not given."""
    largest = max((item.value for item in items), default=0)
    whole = sum(item.value for item in items) if whole is None else whole
    return [
        BarListRow(
            item,
            unit.text(item.value),
            _percent(100 * max(0, item.value) / largest if largest > 0 else 0),
            formats.percent(item.value, whole),
        )
        for item in items
    ]
