"""How long a Version that keeps dying is left alone: by whether anybody waits for it."""

from types import SimpleNamespace
from typing import Any

from core.lifecycle import FailureCode, VersionStatus
from scheduler.obstacles import LONGEST_PAUSE_SECONDS, LONGEST_UNASKED_PAUSE_SECONDS, in_a_row, obstacle
from scheduler.world import Target

VERSION: Any = SimpleNamespace(id="v", status=VersionStatus.READY, setup_timeout_seconds=60)


def died(count: int, ago: float, waiting: int = 0) -> Target:
    """So many of its containers, one each minute, the last so many seconds ago."""
    fields = {"id": "i", "has_worked": False, "reason": "It exited with code 1."}
    deaths: list[Any] = [SimpleNamespace(seconds_ago=ago + 60 * number, **fields) for number in range(count)]
    return Target("t", "v", "h", waiting=waiting, crashes=in_a_row(deaths, VERSION))


def test_who_waits_is_served_by_a_try_every_half_minute() -> None:
    refused = obstacle(died(12, LONGEST_PAUSE_SECONDS - 1, waiting=1), VERSION)
    assert refused is not None
    assert refused.code == FailureCode.SETUP
    assert obstacle(died(12, LONGEST_PAUSE_SECONDS + 1, waiting=1), VERSION) is None


def test_what_is_only_kept_warm_and_broken_takes_the_place_of_others_less_and_less_often() -> None:
    assert obstacle(died(12, LONGEST_PAUSE_SECONDS + 1), VERSION) is not None
    assert obstacle(died(12, LONGEST_UNASKED_PAUSE_SECONDS - 1), VERSION) is not None
    assert obstacle(died(12, LONGEST_UNASKED_PAUSE_SECONDS + 1), VERSION) is None
