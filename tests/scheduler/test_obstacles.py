"""How long a Version that keeps dying is left alone: by whether anybody waits for it."""

from types import SimpleNamespace
from typing import Any

from core.lifecycle import FailureCode, VersionStatus
from scheduler.obstacles import LONGEST_PAUSE_SECONDS, LONGEST_UNASKED_PAUSE_SECONDS, obstacle
from scheduler.world import Target

VERSION: Any = SimpleNamespace(id="v", status=VersionStatus.READY, setup_timeout_seconds=60)


def deaths(count: int, ago: float) -> list[Any]:
    """One each minute, the last so many seconds ago; the newest first."""
    fields = {"id": "i", "has_worked": False, "reason": "It exited with code 1."}
    return [SimpleNamespace(seconds_ago=ago + 60 * number, **fields) for number in range(count)]


def test_who_waits_is_served_by_a_try_every_half_minute() -> None:
    target = Target("t", "v", "h", waiting=1)
    refused = obstacle(target, VERSION, deaths(12, LONGEST_PAUSE_SECONDS - 1))
    assert refused is not None
    assert refused.code == FailureCode.SETUP
    assert obstacle(target, VERSION, deaths(12, LONGEST_PAUSE_SECONDS + 1)) is None


def test_what_is_only_kept_warm_and_broken_takes_the_place_of_others_less_and_less_often() -> None:
    target = Target("t", "v", "h")
    assert obstacle(target, VERSION, deaths(12, LONGEST_PAUSE_SECONDS + 1)) is not None
    assert obstacle(target, VERSION, deaths(12, LONGEST_UNASKED_PAUSE_SECONDS - 1)) is not None
    assert obstacle(target, VERSION, deaths(12, LONGEST_UNASKED_PAUSE_SECONDS + 1)) is None
