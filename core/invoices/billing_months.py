"""Calendar months in an Account's own time zone, as moments. Pure; leap days and changes of the clock are `zoneinfo`'s.

What one invoice covers begins where the one before ended, whatever time zone the Account has had since: so nothing is
billed twice, and nothing falls between two months.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Period:
    """`start` is included, `end` is not. `month` is the first day of the calendar month that gives it its name."""

    month: date
    start: datetime
    end: datetime


def following(month: date) -> date:
    """The first day of the month after."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def beginning(month: date, timezone: str) -> datetime:
    """The moment at which a month begins there, in UTC."""
    return datetime(month.year, month.month, 1, tzinfo=ZoneInfo(timezone)).astimezone(UTC)


def month_of(moment: datetime, timezone: str) -> date:
    return moment.astimezone(ZoneInfo(timezone)).date().replace(day=1)


def next_period(first_use: datetime, timezone: str, last_month: date | None, last_end: datetime | None) -> Period:
    """The month to be invoiced next, given the first use that no invoice has, and what the last invoice covers."""
    month = month_of(first_use, timezone)
    if last_month is None or last_end is None or month > following(last_month):
        return Period(month, beginning(month, timezone), beginning(following(month), timezone))
    # Also where the Account has moved west since, and its last month has a few hours more than it was billed for.
    month = following(last_month)
    return Period(month, last_end, beginning(following(month), timezone))
