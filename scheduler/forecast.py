"""When a target will be called next, as far as its latest calls tell. Pure: ages in seconds, newest first, in and out.

Knows nothing of Instances, and never more than what has been: a target without a past is taken to be like any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

#: So many equal distances in a row are a rhythm. Three come about by chance too often.
_LEAST_DISTANCES = 4
#: How much they may differ and count as equal, and how late a call may be before its rhythm counts as lost.
_TOLERANCE = 0.2
#: Calls much closer together than the longest silence are one beat: whoever calls every hour may call five times then.
_WITHIN_A_BEAT = 0.2
#: The silence to expect after a first call, of which nobody knows whether it was also the last one.
_UNKNOWN_SECONDS = 300.0
#: Nothing is expected sooner: a call that is due this moment may still be a moment late.
_SOONEST_SECONDS = 1.0
#: Calls per second are counted over this time: long enough for a few of them, short enough to follow a burst.
_RATE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Rhythm:
    period: float
    due_in: float
    """Seconds until the next call should come; below zero, it is late."""


def rate(arrivals: Sequence[float]) -> float:
    """Calls per second of late. `arrivals` may end with as many as are remembered, within the time they are counted."""
    count = sum(age < _RATE_SECONDS for age in arrivals)
    if not count:
        return 0.0
    is_cut = count == len(arrivals) and count > 1
    return count / (max(arrivals[-1], _SOONEST_SECONDS) if is_cut else _RATE_SECONDS)


def rhythm(arrivals: Sequence[float]) -> Rhythm | None:
    """That of somebody who calls at equal distances; None: of nobody, or they have stopped."""
    if len(arrivals) <= _LEAST_DISTANCES:
        return None
    longest = max(older - newer for newer, older in zip(arrivals, arrivals[1:], strict=False))
    beats = [arrivals[-1]]
    for older, newer in zip(arrivals[::-1], arrivals[-2::-1], strict=False):
        if older - newer > longest * _WITHIN_A_BEAT:
            beats.append(newer)
    distances = [older - newer for older, newer in zip(beats, beats[1:], strict=False)]
    if len(distances) < _LEAST_DISTANCES:
        return None
    period = median(distances)
    due_in = period - beats[-1]
    is_even = max(distances) - min(distances) <= period * _TOLERANCE
    return Rhythm(period, due_in) if is_even and due_in >= -period * _TOLERANCE else None


def seconds_to_next(arrivals: Sequence[float]) -> float:
    """Until the next call, as is to be expected.

    In a rhythm: until it is due. Else: of the silences so far that were longer than the present one, how much longer
    they were; and one more that is imagined, which lasts as long again as the present one. So a target of which little
    is known is expected later, the longer it has been silent.
    """
    found = rhythm(arrivals)
    if found is not None:
        return max(found.due_in, _SOONEST_SECONDS)
    if not arrivals:
        return _UNKNOWN_SECONDS
    silence = arrivals[0]
    total, count, newer = max(silence, _UNKNOWN_SECONDS), 1, silence
    for older in arrivals[1:]:
        longer = older - newer - silence
        if longer > 0:
            total += longer
            count += 1
        newer = older
    return max(total / count, _SOONEST_SECONDS)
