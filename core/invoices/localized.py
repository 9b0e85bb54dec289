"""Money, numbers and dates as a locale writes them. Pure; the only place that knows `babel`.

Amounts are nanodollars. Labels are not translated: what is said in words is English.
"""

from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal
from zoneinfo import available_timezones

from babel import Locale, UnknownLocaleError, dates, numbers

CURRENCY = "USD"
_CENT = Decimal("0.01")
_LEAST_DIGITS, _MOST_DIGITS = 2, 9
#: Enough for any amount: arithmetic must not round where nobody looks.
_WIDE = Context(prec=60, rounding=ROUND_HALF_EVEN)


def locale_of(name: str) -> str:
    """`de_DE`, also of `de-DE`. Raises `ValueError` for what is no locale."""
    try:
        return str(Locale.parse(name.replace("-", "_")))
    except (UnknownLocaleError, ValueError, TypeError):
        raise ValueError(f"{name!r} is no known locale; write it like en_US or de_DE.") from None


def timezone_of(name: str) -> str:
    """Raises `ValueError` for what is no time zone of the IANA database."""
    if name not in available_timezones():
        raise ValueError(f"{name!r} is no known time zone; write it like Europe/Berlin.")
    return name


def money(nanos: int, locale: str) -> str:
    """With its currency, to the cent: `$1,234.50`, `1.234,50 $`."""
    # Plus zero, for there is no negative nothing.
    cents = Decimal(nanos).scaleb(-9, _WIDE).quantize(_CENT, context=_WIDE) + 0
    return numbers.format_currency(cents, CURRENCY, locale=locale)


def exact(nanos: int, locale: str, digits: int = _LEAST_DIGITS) -> str:
    """Dollars without their sign, in so many digits, or as many as it takes: `0.000725`."""
    return decimal(Decimal(nanos).scaleb(-9, _WIDE), locale, max(digits, digits_of(nanos)))


def digits_of(nanos: int) -> int:
    """How many it takes to write so many dollars exactly; two at least."""
    digits = _MOST_DIGITS
    while digits > _LEAST_DIGITS and nanos % 10 == 0:
        nanos, digits = nanos // 10, digits - 1
    return digits


def decimal(value: Decimal, locale: str, digits: int) -> str:
    """A number in so many digits, all of them shown."""
    whole, _, _ = Locale.parse(locale).decimal_formats[None].pattern.partition(".")
    pattern = f"{whole}.{'0' * digits}" if digits else whole
    return numbers.format_decimal(value, pattern, locale, decimal_quantization=False)


def percent(parts_per_million: int, locale: str) -> str:
    """`7.75%`, `7,75 %`."""
    share = Decimal(parts_per_million).scaleb(-6)
    return numbers.format_percent(share, locale=locale, decimal_quantization=False)


def day(moment: date, locale: str) -> str:
    """`January 31, 2026`."""
    return dates.format_date(moment, "long", locale)


def month(first: date, locale: str) -> str:
    """`January 2026`."""
    return dates.format_skeleton("yMMMM", first, locale=locale)


def days(first: date, last: date, locale: str) -> str:
    """`Jan 1 – 31, 2026`, both included."""
    return dates.format_interval(first, last, "yMMMd", locale=locale)
