"""How a moment is written: in the one form that every client parses."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from core.clock import rfc3339

ELSEWHERE = timezone(timedelta(hours=-5, minutes=-30))


@pytest.mark.parametrize(
    ("moment", "written"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), "2026-01-02T03:04:05.678901Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 100, UTC), "2026-01-02T03:04:05.000100Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 0, UTC), "2026-01-02T03:04:05.000000Z"),
        (datetime(2026, 1, 2, 23, 4, 5, 0, ELSEWHERE), "2026-01-03T04:34:05.000000Z"),
        (None, None),
    ],
)
def test_a_moment_has_six_digits_and_a_z_wherever_and_whenever_it_was(
    moment: datetime | None, written: str | None
) -> None:
    assert rfc3339(moment) == written
