"""Why Instances of a target make no sense now: its Version is not ready, nobody pays for them, or they keep dying.

Each death makes the pause before the next boot twice as long, up to the longest. From `CRASH_LOOP_FAILURES` on, whoever
waits is refused with the last boot's logs; whoever asks after the pause is served by the next try, or refused with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Row

from core.lifecycle import FailureCode, VersionStatus
from scheduler.world import Target

#: So many containers of a Version that die one after the other, and none that stays: it is broken, not unlucky.
CRASH_LOOP_FAILURES = 3
#: One that dies so long after the last, and after it could have been set up, is the first again.
CRASH_LOOP_GAP_SECONDS = 600.0
#: How far is looked back.
CRASH_LOOP_SECONDS = 3600.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
#: Where nobody waits, and only a least number is kept warm: until somebody mends it, it need not be tried so often.
LONGEST_UNASKED_PAUSE_SECONDS = 300.0

UNFUNDED = "The account that pays for the containers of this model has too little money left to start another one."


@dataclass(frozen=True, slots=True)
class Obstacle:
    """As those who wait are told; with a `code` they are refused."""

    reason: str
    code: FailureCode | None = None
    instance_id: str | None = None
    """Whose logs they are to see."""


def obstacle(target: Target, version: Row) -> Obstacle | None:
    """To a target that wants an Instance, whose `crashes` are known."""
    if version.status == VersionStatus.PREPARING:
        return Obstacle(f"Version {version.id[:12]} is being prepared: its environment is not ready yet.")
    if version.status == VersionStatus.FAILED:
        return Obstacle(f"This version could not be prepared: {version.status_reason}", FailureCode.PREPARATION)
    if target.is_unfunded and not target.instances:
        return Obstacle(UNFUNDED)
    longest = LONGEST_PAUSE_SECONDS if target.waiting else LONGEST_UNASKED_PAUSE_SECONDS
    return _crash_loop(target.crashes, longest)


def pause(failures: int, longest: float = LONGEST_PAUSE_SECONDS) -> float:
    """Seconds from the last failure to the next boot."""
    return min(FIRST_PAUSE_SECONDS * 2 ** (failures - 1), longest)


def in_a_row(crashes: Sequence[Row], version: Row) -> list[Row]:
    """Those since the last long pause, of what `core.crashes.of` says."""
    gap_seconds = CRASH_LOOP_GAP_SECONDS + version.setup_timeout_seconds
    row, newer = [], 0.0
    for crash in crashes:
        ago = float(crash.seconds_ago)
        if ago - newer > gap_seconds:
            break
        row.append(crash)
        newer = ago
    return row


def _crash_loop(crashes: Sequence[Row], longest: float) -> Obstacle | None:
    if not crashes or crashes[0].seconds_ago > pause(len(crashes), longest):
        return None
    last, count = crashes[0], f"{len(crashes)} containers" if len(crashes) > 1 else "A container"
    if sum(not crash.has_worked for crash in crashes) >= CRASH_LOOP_FAILURES:
        reason = f"{count} of this version failed to start. The last one: {last.reason}"
        return Obstacle(reason, FailureCode.SETUP, last.id)
    again = f"another is started {pause(len(crashes), longest):g} s after that"
    return Obstacle(f"{count} of this version did not stay up; {again}. The last one: {last.reason}")
