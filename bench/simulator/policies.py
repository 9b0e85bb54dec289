"""Who gets how many Instances, and which idle one is cheapest to lose: Millrace's own answer, and three plainer ones.

All place by `scheduler.placement.plan`, and all know only what has happened so far, but for `AlwaysOn`, which is told
how much each model is called on the whole.
"""

import math
from collections import deque

from bench.simulator.fleet import Fleet, Instance, Target
from scheduler import autoscaling
from scheduler.autoscaling import Bounds, Demand, Supply, wanted
from scheduler.placement import Need

#: As settings.idle_seconds.
_IDLE_SECONDS = 300.0
_WINDOW_SECONDS = 60.0
#: What an operator keeps back for all the models that are not always on.
_SWAPPED_SHARE = 0.1


class Policy:
    """What all have in common: a call that finds nothing gets an Instance at once, and growth is Millrace's own."""

    name = ""
    swaps = True
    """Whether an idle Instance goes when another model is waited for."""
    displaces = False
    """Whether one at work drains for who has waited for too long."""
    guards_young = False
    """Whether one that is younger than its own boot stays."""
    foretells = False
    """Whether an Instance boots for a call that a rhythm foretells."""

    def begin(self, fleet: Fleet) -> list[Target]:
        """Who has an Instance before the day begins, one for each time that it is named."""
        return []

    def idle_limit(self, target: Target) -> float | None:
        """Seconds after which an idle Instance may go though nobody wants its place; None: it stays."""
        return None

    def wanted(self, target: Target, now: float) -> int:
        return wanted(_demand(target, now), _supply(target, now), Bounds(0, target.maximum, math.inf))

    def urgency(self, need: Need) -> float:
        """Who is placed first: who waits longest."""
        return need.oldest_wait

    def loss(self, instance: Instance, now: float) -> float:
        """Of the idle ones, that with the smallest goes first: here, the least recently used."""
        return instance.target.model.gpus / (1.0 + now - instance.since)


class Millrace(Policy):
    name = "Millrace"
    displaces = True
    guards_young = True
    foretells = True

    def idle_limit(self, target: Target) -> float:
        return autoscaling.idle_limit(Bounds(0, target.maximum, _IDLE_SECONDS), target.boot_seconds)

    def wanted(self, target: Target, now: float) -> int:
        return wanted(_demand(target, now), _supply(target, now), Bounds(0, target.maximum, _IDLE_SECONDS))

    def loss(self, instance: Instance, now: float) -> float:
        target = instance.target
        return autoscaling.loss(target.boot_seconds, now - instance.since, target.arrivals(now))


class Answering(Millrace):
    """As above, and boots for nobody who has not called yet."""

    name = "without rhythm"
    foretells = False


class Lru(Policy):
    name = "LRU swap"


class LruOneEach(Policy):
    """As the swappers of today: whatever waits and has no Instance that boots for it gets one."""

    name = "LRU, one per call"

    def wanted(self, target: Target, now: float) -> int:
        return min(target.maximum, max(len(target.instances), len(target.waiting) + target.running))


class Window(Policy):
    """As many as were at work on average over the last minute; no swapping: what finds no room waits for it."""

    name = "60 s window"
    swaps = False

    def __init__(self) -> None:
        self._seen: dict[int, deque[tuple[float, int]]] = {}

    def idle_limit(self, target: Target) -> float:
        return _WINDOW_SECONDS

    def wanted(self, target: Target, now: float) -> int:
        seen = self._seen.setdefault(target.number, deque())
        seen.append((now, len(target.waiting) + target.running))
        while seen[0][0] < now - _WINDOW_SECONDS:
            seen.popleft()
        mean = math.ceil(sum(count for _, count in seen) / len(seen))
        idle = sum(now - instance.since >= _WINDOW_SECONDS for instance in target.idle)
        least = 1 if target.waiting else 0
        return min(target.maximum, max(least, mean, len(target.instances) - idle))


class AlwaysOn(Policy):
    """Nine of ten GPUs are given out before the day begins, for good, to the models that keep them busiest; the other
    models share the rest by LRU. It alone is told how much each model will be called."""

    name = "always on"

    def __init__(self) -> None:
        self._fixed: set[int] = set()

    def begin(self, fleet: Fleet) -> list[Target]:
        left = len(fleet.free_gpus) * (1.0 - _SWAPPED_SHARE)
        shares = {target.number: 0 for target in fleet.targets}
        given = []
        while True:
            fitting = [
                target
                for target in fleet.targets
                if target.model.gpus <= left and shares[target.number] < target.maximum
            ]
            if not fitting:
                break
            best = max(fitting, key=lambda target: target.model.load / target.model.gpus / (1 + shares[target.number]))
            shares[best.number] += 1
            left -= best.model.gpus
            given.append(best)
        self._fixed = {target.number for target in given}
        return given

    def wanted(self, target: Target, now: float) -> int:
        if target.number in self._fixed:
            return len(target.instances)
        return super().wanted(target, now)


POLICIES: dict[str, type[Policy]] = {
    "millrace": Millrace,
    "answering": Answering,
    "lru": Lru,
    "lru-each": LruOneEach,
    "window": Window,
    "always-on": AlwaysOn,
}


def _demand(target: Target, now: float) -> Demand:
    return Demand(
        waiting=len(target.waiting),
        running=target.running,
        oldest_wait=target.oldest_wait(now),
        slots=1,
        run_seconds=target.run_seconds,
        arrivals=target.arrivals(now),
    )


def _supply(target: Target, now: float) -> Supply:
    ready = target.ready
    return Supply(
        booting=len(target.instances) - ready,
        ready=ready,
        boot_seconds=target.boot_seconds,
        idle_seconds=tuple([now - instance.since for instance in target.idle]),
    )
