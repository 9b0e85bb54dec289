"""How numbers, times and days are written and read."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from api.web import formats
from api.web.browsers import browser_name
from api.web.navigation import areas
from api.web.ranges import LONGEST, DateRange, date_range

TODAY = date(2026, 3, 15)
MS, S = 1000, 1_000_000


@pytest.mark.parametrize(
    ("filter", "value", "text"),
    [
        ("money", 0, "$0.00"),
        ("money", 1_234_567_890_000, "$1,234.57"),
        ("money", -2_500_000_000, "−$2.50"),
        ("money", 4, "<$0.01"),
        ("money", -4, "−<$0.01"),
        ("money", 10**12 * 10**9, "$1,000,000,000,000.00"),
        ("exact_money", 725_000, "$0.000725"),
        ("exact_money", 1_000_000_000, "$1.00"),
        ("exact_money", -1, "−$0.000000001"),
        ("count", -1234, "−1,234"),
        ("compact", 12_400, "12.4k"),
        ("compact", 3_000_000, "3M"),
        ("compact", 7, "7"),
        ("duration", 412 * MS, "412\u202fms"),
        ("duration", 0, "0\u202fms"),
        ("duration", 3200 * MS, "3.2\u202fs"),
        ("duration", 250 * S, "4\u202fm 10\u202fs"),
        ("duration", 7500 * S, "2\u202fh 05\u202fm"),
        ("duration", 76 * 3600 * S, "3\u202fd 4\u202fh"),
        ("seconds", 1_204_512 * MS, "1,204.512\u202fs"),
        ("percent", 0.125, "12.5\u202f%"),
        ("day", TODAY, "15 Mar 2026"),
        ("short_day", TODAY, "15 Mar"),
        ("moment", None, "–"),
        ("lines", "a\n<b>", "a<br>&lt;b&gt;"),
    ],
)
def test_filters_write_for_people(filter: str, value: Any, text: str) -> None:
    assert str(formats.FILTERS[filter](value)) == text


def test_a_moment_is_in_utc_with_all_of_it_for_machines() -> None:
    moment = datetime(2026, 3, 15, 1, 30, 5, tzinfo=timezone(timedelta(hours=2)))
    shown = formats.moment(moment)
    assert shown == (
        '<time datetime="2026-03-14T23:30:05+00:00" title="2026-03-14 23:30:05 UTC">14 Mar 2026, 23:30</time>'
    )
    assert formats.moment(moment.astimezone(UTC)) == shown


@pytest.mark.parametrize(
    ("now", "before", "expected"),
    [
        (112, 100, formats.Change("+12.0\u202f%", "up")),
        (50, 100, formats.Change("−50.0\u202f%", "down")),
        (100, 100, formats.Change("no change", "flat")),
        (5000, 100, formats.Change("+50×", "up")),
        (5, 0, None),
    ],
)
def test_a_change_says_how_much_and_where_to(now: int, before: int, expected: formats.Change | None) -> None:
    assert formats.change(now, before) == expected


# --- days ---


@pytest.mark.parametrize(
    ("query", "first", "last", "name"),
    [
        ({}, date(2026, 2, 14), TODAY, "30d"),
        ({"span": "nonsense"}, date(2026, 2, 14), TODAY, "30d"),
        ({"span": "today"}, TODAY, TODAY, "today"),
        ({"span": "yesterday"}, date(2026, 3, 14), date(2026, 3, 14), "yesterday"),
        ({"span": "month"}, date(2026, 3, 1), TODAY, "month"),
        ({"span": "last-month"}, date(2026, 2, 1), date(2026, 2, 28), "last-month"),
        ({"since": "2026-01-05", "until": "2026-01-07"}, date(2026, 1, 5), date(2026, 1, 7), ""),
        ({"since": "2026-03-09", "until": "2026-03-15", "span": "7d"}, date(2026, 3, 9), TODAY, "7d"),
        ({"since": "2026-03-10", "until": "2026-03-15", "span": "7d"}, date(2026, 3, 10), TODAY, ""),
        ({"until": "2026-01-07"}, date(2026, 1, 7), date(2026, 1, 7), ""),
        ({"since": "2026-01-09", "until": "2026-01-07"}, date(2026, 1, 7), date(2026, 1, 7), ""),
        ({"since": "2026-01-09", "until": "2030-01-01"}, date(2026, 1, 9), TODAY, ""),
        ({"since": "2030-01-01"}, TODAY, TODAY, ""),
        ({"since": "0001-01-01"}, TODAY - LONGEST, TODAY, ""),
        ({"since": "yesterday"}, date(2026, 2, 14), TODAY, "30d"),
    ],
)
def test_days_are_read_from_the_query(query: dict[str, str], first: date, last: date, name: str) -> None:
    found = date_range(TODAY, **query)
    assert (found.first, found.last, found.name) == (first, last, name)
    assert date_range(TODAY, **found.query) == found


def test_a_leap_day_is_a_day() -> None:
    assert date_range(date(2028, 3, 1), "last-month").days[-1] == date(2028, 2, 29)
    assert len(date_range(date(2028, 2, 29), "month").days) == 29


def test_days_are_compared_with_as_many_before() -> None:
    before = DateRange(date(2026, 3, 9), TODAY, TODAY).before
    assert (before.first, before.last) == (date(2026, 3, 2), date(2026, 3, 8))


# --- words ---


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/150.0.0.0 Safari/537.36", "Chrome on Linux"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/18.0 Safari/605.1.15", "Safari on macOS"),
        ("Mozilla/5.0 (Windows NT 10.0; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Windows"),
        ("curl/8.0", "A browser"),
    ],
)
def test_a_browser_is_named_in_two_words(agent: str, name: str) -> None:
    assert browser_name(agent) == name


def test_what_stands_at_the_side_is_what_this_person_may_open() -> None:
    labels = [label for label, _ in areas(False, "/account/settings")]
    assert labels == ["Account"]
    current = [link.path for _, links in areas(True, "/account/settings/below") for link in links if link.is_current]
    assert current == ["/account/settings"]
