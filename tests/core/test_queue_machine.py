"""Under any interleaving the queue is fair, loses and repeats nothing, passes no limit, and lets no taker sleep."""

import asyncio

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as bounds
from hypothesis.stateful import run_state_machine_as_test

from core import queue
from core.redis import open_redis
from core.settings import Settings
from tests.core.queue_machine import LOW_EVERY, QueueMachine


def test_any_interleaving_takes_what_the_plainest_queue_would_and_rings_for_what_can_be_taken(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "LOW_EVERY", LOW_EVERY)
    # A loop and connections of its own: Hypothesis is synchronous, and runs between the tests' own loop's turns.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        redis = open_redis(settings)
        machine = type("Machine", (QueueMachine,), {"run": runner.run, "redis": redis})
        wanted = bounds(max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
        try:
            run_state_machine_as_test(machine, settings=wanted)
        finally:
            runner.run(redis.aclose(close_connection_pool=True))
