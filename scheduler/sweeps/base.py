"""What a sweep is, and what all of them are given."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from core.jobs import JobQueue
from core.resources import Resources


@dataclass(frozen=True, slots=True)
class Context:
    resources: Resources
    jobs: JobQueue
    healthy_seconds: float
    """For how long the database has answered this scheduler without a break."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """`run` is called every `interval_seconds`, and at once after a wake-up if `wakes`."""

    name: str
    interval_seconds: float
    run: Callable[[Context], Awaitable[None]]
    wakes: bool = False
