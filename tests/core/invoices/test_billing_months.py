"""Periods follow each other without a gap and without overlap, wherever their Account lives and moves to."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from core.invoices.billing_months import Period, beginning, following, month_of, next_period

ZONES = [
    "UTC",
    "Asia/Kolkata",
    "America/New_York",
    "Europe/Berlin",
    "Pacific/Kiritimati",
    "Pacific/Niue",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
]


@pytest.mark.parametrize(
    ("month", "after"),
    [
        (date(2024, 1, 1), date(2024, 2, 1)),
        (date(2024, 11, 1), date(2024, 12, 1)),
        (date(2024, 12, 1), date(2025, 1, 1)),
    ],
)
def test_december_is_followed_by_january(month: date, after: date) -> None:
    assert following(month) == after


@pytest.mark.parametrize(("year", "days"), [(2023, 28), (2024, 29), (2000, 29), (2100, 28)])
@pytest.mark.parametrize("timezone", ["UTC", "Asia/Kolkata"])
def test_february_has_a_day_more_in_leap_years(year: int, days: int, timezone: str) -> None:
    first, end = (beginning(date(year, month, 1), timezone) for month in (2, 3))
    assert end - first == timedelta(days=days)


@pytest.mark.parametrize(("month", "hours"), [(3, 31 * 24 - 1), (7, 31 * 24), (11, 30 * 24 + 1)])
def test_a_month_in_which_the_clock_is_changed_has_an_hour_less_or_more(month: int, hours: int) -> None:
    first, end = (beginning(date(2026, number, 1), "America/New_York") for number in (month, month + 1))
    assert end - first == timedelta(hours=hours)


@bounds(max_examples=200, deadline=None)
@given(st.integers(0, 4_000_000_000), st.sampled_from(ZONES))
def test_every_moment_lies_in_the_month_that_it_belongs_to(seconds: int, timezone: str) -> None:
    moment = datetime.fromtimestamp(seconds, UTC)
    month = month_of(moment, timezone)
    assert beginning(month, timezone) <= moment < beginning(following(month), timezone)


GAPS = st.timedeltas(timedelta(0), timedelta(days=70))


@bounds(max_examples=200, deadline=None)
@given(st.lists(st.tuples(GAPS, st.sampled_from(ZONES)), min_size=1, max_size=12))
def test_periods_tile_all_use_whatever_time_zone_an_account_has_had(uses: list[tuple[timedelta, str]]) -> None:
    moment, periods = datetime(2024, 1, 1, tzinfo=UTC), list[Period]()
    for gap, timezone in uses:
        moment += gap
        last = periods[-1] if periods else None
        if last is not None and moment < last.end:
            continue
        periods.append(next_period(moment, timezone, last and last.month, last and last.end))
        assert periods[-1].start <= moment < periods[-1].end
    assert all(one.end <= other.start and one.month < other.month for one, other in pairwise(periods))
