import asyncio

import pytest
from redis.asyncio import Redis

from core.redis import publish
from core.resources import Resources

#: More steps of the event loop than a command takes until it waits for its answer.
STEPS = 25
ENDS_SECONDS = 5.0


@pytest.mark.parametrize("steps", range(STEPS))
async def test_a_task_that_is_cancelled_while_it_talks_to_redis_ends(resources: Resources, steps: int) -> None:
    await publish(resources.redis, "warm", "up")
    task = asyncio.create_task(_talk_for_ever(resources.redis))
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=ENDS_SECONDS)
    assert task.cancelled(), f"the cancel after {steps} steps was lost"


async def _talk_for_ever(redis: Redis) -> None:
    while True:
        await publish(redis, "nobody", "listens")
