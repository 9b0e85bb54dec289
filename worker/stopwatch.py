"""How long an Instance has been in setup, idle and at work. Pure: it is told the time, and what happens.

Whole microseconds by one monotonic clock, each in exactly one phase, so that no rounding adds or loses any.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from core.money.pricing import MICROS_PER_SECOND
from core.usage.instance_time import Counters

NOTHING = Counters(0, 0, 0)


class Stopwatch:
    """Stands until `set_up` or `ready`; whatever runs once it is stopped is not counted."""

    def __init__(self, clock: Callable[[], float], counted: Counters = NOTHING) -> None:
        self._clock = clock
        self._counted = counted
        self._phase: str | None = None
        self._since = 0
        self._runs = 0

    @property
    def state(self) -> dict[str, Any]:
        """For `resume`, on the same machine."""
        return {"counted": list(self._counted), "phase": self._phase, "since": self._since}

    def resume(self, state: dict[str, Any]) -> None:
        """Goes on as if it had never stopped. The runs of its phase are to be counted in again, by `running`."""
        self._counted, self._phase, self._since = Counters(*state["counted"]), state["phase"], state["since"]

    def set_up(self) -> None:
        """The container has been started."""
        self._enter("setup")

    def ready(self) -> None:
        """It takes predictions from now on."""
        self._enter("active" if self._runs else "idle")

    @contextmanager
    def running(self) -> Iterator[None]:
        """While one prediction runs; several may, at once."""
        self._runs += 1
        self._busy_or_not()
        try:
            yield
        finally:
            self._runs -= 1
            self._busy_or_not()

    def stop(self) -> None:
        """Its container is given up."""
        self._enter(None)

    def read(self) -> Counters:
        """So far."""
        self._enter(self._phase)
        return self._counted

    def _busy_or_not(self) -> None:
        if self._phase in ("idle", "active"):
            self.ready()

    def _enter(self, phase: str | None) -> None:
        now = round(self._clock() * MICROS_PER_SECOND)
        if self._phase is not None:
            spent = getattr(self._counted, self._phase) + now - self._since
            self._counted = self._counted._replace(**{self._phase: spent})
        self._phase, self._since = phase, now
