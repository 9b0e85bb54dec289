"""From demand to a wanted number of Instances. Pure: numbers in, numbers out, no clock and no rows.

Also what an idle Instance is worth, for whoever must choose one that goes. docs/scheduling.md says why in words.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scheduler.forecast import rate, rhythm, seconds_to_next


@dataclass(frozen=True, slots=True)
class Demand:
    """What one target asks for right now. Times in seconds."""

    waiting: int
    running: int
    oldest_wait: float
    slots: int
    run_seconds: float | None = None
    """How long its predictions took of late; None: none has ended yet."""
    arrivals: tuple[float, ...] = ()
    """The ages of the latest calls, newest first. They may be lost, and everything goes on."""


@dataclass(frozen=True, slots=True)
class Supply:
    """What it has: Instances that are booting, that are ready, and for how long the ready ones have been idle."""

    booting: int
    ready: int
    boot_seconds: float
    idle_seconds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Bounds:
    minimum: int
    maximum: int
    idle_seconds: float
    """An Instance that has been idle for this long may go; at least as long as a few boots, see `idle_limit`."""


#: So many seconds of an idle GPU are given for one second of booting that nobody has to wait for: a container that
#: takes a minute to boot is kept for ten minutes, and one of half a second for as long as the operator says.
_IDLE_PER_BOOT_SECOND = 10.0
#: Where nobody knows how long a run takes, another Instance boots for whoever waits longer than a boot.
_PATIENCE_PER_BOOT_SECOND = 1.0
#: No boot is looked at as shorter than this: a pass of the scheduler, and what a measurement of it may be off by.
_LEAST_BOOT_SECONDS = 1.0
#: A boot for a call that is foretold ends this much of itself too early, since no two boots take the same time.
_EARLY_PER_BOOT_SECOND = 0.25


def share(bounds: Bounds, earlier: Iterable[int]) -> list[Bounds]:
    """Those of the targets of one Deployment, so that they keep to its own together; the current one's come last.

    `earlier`: how many Instances each earlier Release has that is still waited for. They come first, since what waits
    for them only gets less.
    """
    left, shares = bounds.maximum, []
    for count in earlier:
        shares.append(Bounds(0, left, bounds.idle_seconds))
        left -= min(count, left)
    return [*shares, Bounds(min(bounds.minimum, left), left, bounds.idle_seconds)]


def idle_limit(bounds: Bounds, boot_seconds: float) -> float:
    return max(bounds.idle_seconds, boot_seconds * _IDLE_PER_BOOT_SECOND)


def wanted(demand: Demand, supply: Supply, bounds: Bounds) -> int:
    """How many Instances there should be, those that are booting included.

    What merely runs asks for none: it has its Instance, which may be leaving. Only what has idled for long may go.
    """
    current = supply.booting + supply.ready
    if demand.waiting:
        return _clamp(_grown(demand, supply, current), bounds)
    limit = idle_limit(bounds, supply.boot_seconds)
    expired = sum(idle > limit for idle in supply.idle_seconds)
    if expired and expired == current and _is_expected(demand.arrivals, supply.boot_seconds):
        expired -= 1
    return _clamp(current - expired, bounds)


def seconds_to_boot(boot_seconds: float, arrivals: Sequence[float]) -> float | None:
    """When an Instance should begin to boot, so that it is ready for the next call of a rhythm; below zero, it is late.

    To be asked for targets that have no Instance. None: nobody knows of a next call.
    """
    found = rhythm(arrivals)
    return None if found is None else found.due_in - boot_seconds * (1.0 + _EARLY_PER_BOOT_SECOND)


def worth(boot_seconds: float, arrivals: Sequence[float]) -> float:
    """That of an Instance which boots for such a call: whoever has a smaller `loss` may go for it."""
    return loss(boot_seconds, 0.0, arrivals)


def loss(boot_seconds: float, idle_seconds: float, arrivals: Sequence[float]) -> float:
    """What it is expected to cost to lose an idle Instance: seconds of waiting for a boot, per second that its GPUs
    would else be kept for it. The smallest goes first.

    It is lost less of a target that was called while it stood idle: others took those calls, and would the next.
    """
    untaken = sum(age < idle_seconds for age in arrivals)
    expected = seconds_to_next(arrivals) if arrivals else max(idle_seconds, seconds_to_next(()))
    return max(boot_seconds, _LEAST_BOOT_SECONDS) / expected / (1 + untaken)


def _is_expected(arrivals: Sequence[float], boot_seconds: float) -> bool:
    """Soon enough that waiting for the call costs less than booting for it."""
    found = rhythm(arrivals)
    return found is not None and found.due_in <= boot_seconds * _IDLE_PER_BOOT_SECOND


def _grown(demand: Demand, supply: Supply, current: int) -> int:
    """At least one, at once. And so many that, beside what keeps coming, all that waits is worked off in the time that
    one boot takes: a queue that empties sooner than another Instance boots gets no other, and no call gets two."""
    if demand.run_seconds is None:
        return _doubled(demand, supply, current)
    run = demand.run_seconds / demand.slots
    work = (demand.waiting + demand.running / 2) * run
    needed = math.ceil(work / max(supply.boot_seconds, _LEAST_BOOT_SECONDS) + rate(demand.arrivals) * run)
    return max(current, 1, min(needed, _one_for_each(demand)))


def _doubled(demand: Demand, supply: Supply, current: int) -> int:
    """Where no run time is known: double while the oldest waits longer than another boot would take."""
    patience = max(_LEAST_BOOT_SECONDS, supply.boot_seconds * _PATIENCE_PER_BOOT_SECOND)
    if current == 0 or supply.booting or demand.oldest_wait < patience:
        return max(current, 1)
    return max(current, min(_one_for_each(demand), current * 2))


def _one_for_each(demand: Demand) -> int:
    return math.ceil((demand.waiting + demand.running) / demand.slots)


def _clamp(count: int, bounds: Bounds) -> int:
    return max(bounds.minimum, min(count, bounds.maximum))
