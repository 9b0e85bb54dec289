"""What is taken off the queue has begun: stopping, whenever it comes, drops nothing and lets nothing more in."""

import asyncio

import pytest
from redis.asyncio import Redis

from core import queue
from core.ids import new_id
from core.resources import Resources
from worker.taking import Taking

COUNT = 6


@pytest.fixture
async def target(resources: Resources) -> str:
    """With so many waiting."""
    name = f"target-{new_id()}"
    for number in range(COUNT):
        await queue.push(resources.redis, name, "account", f"{name}-{number}")
    return name


async def let_turn(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def stopped(taking: Taking, running: asyncio.Task) -> None:
    async with asyncio.timeout(30):
        await taking.stopped()
        await running


async def left(redis: Redis, target: str) -> set[str]:
    return set(await queue.take(redis, target, 2 * COUNT))


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 12, 20, 40, 80])
async def test_whenever_it_stops_each_waits_or_has_begun(resources: Resources, target: str, turns: int) -> None:
    begun: list[str] = []

    def begin(id: str) -> None:
        taking.free -= 1
        begun.append(id)

    taking = Taking(resources.redis, target, 4, begin)
    running = asyncio.create_task(taking.run())
    await let_turn(turns)
    await stopped(taking, running)
    waiting = await left(resources.redis, target)
    assert len(begun) + len(waiting) == COUNT
    assert not waiting & set(begun)


async def test_once_stopped_it_takes_nothing_new(resources: Resources) -> None:
    begun: list[str] = []
    target = f"target-{new_id()}"
    taking = Taking(resources.redis, target, 4, begun.append)
    running = asyncio.create_task(taking.run())
    await asyncio.sleep(0.1)
    await stopped(taking, running)
    await queue.push(resources.redis, target, "account", "late")
    taking.freed()
    await asyncio.sleep(0.1)
    assert not begun
    assert await left(resources.redis, target) == {"late"}


async def test_a_slot_that_is_freed_is_used(resources: Resources, target: str) -> None:
    begun: list[str] = []

    def begin(id: str) -> None:
        taking.free -= 1
        begun.append(id)

    taking = Taking(resources.redis, target, 1, begin)
    running = asyncio.create_task(taking.run())
    async with asyncio.timeout(30):
        while len(begun) < COUNT:
            if begun and not taking.free:
                taking.freed()
            await asyncio.sleep(0.01)
    await stopped(taking, running)
    assert begun == [f"{target}-{number}" for number in range(COUNT)]
