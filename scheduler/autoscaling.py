"""From demand to a wanted number of Instances. Pure: numbers in, numbers out, no clock and no rows."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Demand:
    """What one target asks for right now. Times in seconds."""

    waiting: int
    running: int
    oldest_wait: float
    slots: int


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


# A container that takes a minute to boot is worth keeping for longer than one that takes half a second.
_IDLE_PER_BOOT_SECOND = 10.0
# A queue that empties faster than another Instance boots needs no other Instance.
_PATIENCE_PER_BOOT_SECOND = 1.0
_LEAST_PATIENCE_SECONDS = 1.0


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
    expired = sum(idle > idle_limit(bounds, supply.boot_seconds) for idle in supply.idle_seconds)
    return _clamp(current - expired, bounds)


def _grown(demand: Demand, supply: Supply, current: int) -> int:
    """At once from zero; from there, double while the oldest waits longer than another boot would take."""
    if current == 0:
        return 1
    patience = max(_LEAST_PATIENCE_SECONDS, supply.boot_seconds * _PATIENCE_PER_BOOT_SECOND)
    if supply.booting or demand.oldest_wait < patience:
        return current
    needed = math.ceil((demand.waiting + demand.running) / demand.slots)
    return max(current, min(needed, current * 2))


def _clamp(count: int, bounds: Bounds) -> int:
    return max(bounds.minimum, min(count, bounds.maximum))
