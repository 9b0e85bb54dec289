"""How numbers, times and money are written for people. Pure; templates use these as filters.

Money is integers of nanodollars, durations integers of microseconds, as everywhere.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from markupsafe import Markup, escape

NANOS = 1_000_000_000
MICROS = 1_000_000
_CENT = NANOS // 100
_MINUS = "\N{MINUS SIGN}"
_NARROW = "\N{NARROW NO-BREAK SPACE}"


def money(nanos: int) -> str:
    """Dollars and cents: `$1,234.56`. What is less than a cent and not nothing is `<$0.01`."""
    if 0 < abs(nanos) < _CENT:
        return "<$0.01" if nanos > 0 else f"{_MINUS}<$0.01"
    return _signed(nanos, f"${Decimal(abs(nanos)) / NANOS:,.2f}")


def fine_money(nanos: int) -> str:
    """Cents, and digits enough to tell small amounts apart: `$12.30`, `$0.1234`, `$0.002474`."""
    size = abs(nanos)
    if not size or size >= NANOS:
        return money(nanos)
    digits = 4 if size >= _CENT else 6 if size >= NANOS // 100_000 else 9
    return _signed(nanos, f"${Decimal(size) / NANOS:.{digits}f}")


def exact_money(nanos: int) -> str:
    """To the nanodollar, at least cents: `$0.000725`."""
    digits = f"{Decimal(abs(nanos)) / NANOS:,.9f}".rstrip("0")
    whole, _, fraction = digits.partition(".")
    return _signed(nanos, f"${whole}.{fraction:0<2}")


def count(number: int) -> str:
    return _signed(number, f"{abs(number):,}")


def compact(number: float) -> str:
    """At most three digits: `812`, `12.4k`, `3M`."""
    for size, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return _signed(number, f"{abs(number) / size:.3g}{suffix}")
    return _signed(number, f"{abs(number):.3g}")


def duration(micros: int) -> str:
    """The two units that matter: `412 ms`, `3.2 s`, `4 m 10 s`, `2 h 05 m`, `3 d 4 h`."""
    seconds = micros / MICROS
    if seconds < 1:
        return f"{micros / 1000:.0f}{_NARROW}ms"
    if seconds < 60:
        return f"{seconds:.3g}{_NARROW}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{_NARROW}m {rest:02}{_NARROW}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}{_NARROW}h {minutes:02}{_NARROW}m"
    days, hours = divmod(hours, 24)
    return f"{days:,}{_NARROW}d {hours}{_NARROW}h"


def seconds(micros: int) -> str:
    """All of it in seconds, for columns that add up: `1,204.512 s`."""
    return f"{Decimal(micros) / MICROS:,.3f}{_NARROW}s"


def percent(part: float, whole: float = 1) -> str:
    """`12.5 %`; of nothing there is no share."""
    if not whole:
        return "–"
    share = 100 * part / whole
    return _signed(share, f"{abs(share):.1f}{_NARROW}%")


def day(moment: date) -> str:
    return f"{moment.day} {moment:%b %Y}"


def short_day(moment: date) -> str:
    return f"{moment.day} {moment:%b}"


def moment(value: datetime | None) -> Markup | str:
    """To the minute, in UTC, with the whole moment for machines and on hover."""
    if value is None:
        return "–"
    utc = value.astimezone(UTC)
    shown = f"{day(utc)}, {utc:%H:%M}"
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        utc.isoformat(), utc.strftime("%Y-%m-%d %H:%M:%S"), shown
    )


def precise(value: datetime | None) -> Markup | str:
    """To the second, in UTC, for what many of happen in a minute."""
    if value is None:
        return "–"
    utc = value.astimezone(UTC)
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        utc.isoformat(), f"{utc:%Y-%m-%d %H:%M:%S.%f}", f"{short_day(utc)}, {utc:%H:%M:%S}"
    )


@dataclass(frozen=True, slots=True)
class Change:
    """Against an earlier period. `direction`: `up`, `down` or `flat`."""

    text: str
    direction: str


def change(now: int, before: int) -> Change | None:
    """None where there was nothing to compare with."""
    if not before:
        return None
    share = (now - before) / abs(before)
    if abs(share) < 0.0005:
        return Change("no change", "flat")
    shown = f"{abs(share) * 100:.1f}{_NARROW}%" if abs(share) < 10 else f"{compact(abs(share) + 1)}×"
    return Change(f"{'+' if share > 0 else _MINUS}{shown}", "up" if share > 0 else "down")


def _signed(number: float | int, text: str) -> str:
    return f"{_MINUS}{text}" if number < 0 else text


_LONG_DOLLARS = re.compile(r"(\d+\.\d\d\d*?)0+(?= dollars)")


def brief_dollars(text: str) -> str:
    """A message with its amounts as people write them: `250.00 dollars` for `250.000000000 dollars`."""
    return _LONG_DOLLARS.sub(r"\1", text)


def lines(text: str) -> Markup:
    """Its line ends as line breaks."""
    return Markup("<br>").join(escape(line) for line in text.splitlines())


_FILTERS = (
    money,
    fine_money,
    exact_money,
    count,
    compact,
    duration,
    seconds,
    percent,
    day,
    short_day,
    moment,
    precise,
    change,
    lines,
    brief_dollars,
)
FILTERS: dict[str, Callable[..., Any]] = {filter.__name__: filter for filter in _FILTERS}
