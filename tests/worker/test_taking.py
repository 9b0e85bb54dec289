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


class Slot:
    """One slot, and what has begun in it or waits for it."""

    def __init__(self, resources: Resources, target: str, takes_ahead: bool = True) -> None:
        self.begun: list[str] = []
        self.taking = Taking(resources.redis, target, 1, self._begin, lambda: takes_ahead)
        self.running = asyncio.create_task(self.taking.run())

    def _begin(self, id: str) -> None:
        self.taking.free -= 1
        self.begun.append(id)

    async def has(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.begun) < count:  # noqa: ASYNC110 - a list announces nothing
                await asyncio.sleep(0.01)
        # More would come at once.
        await asyncio.sleep(0.1)
        assert len(self.begun) == count


async def test_where_it_takes_ahead_one_more_is_in_hand_and_never_two(resources: Resources, target: str) -> None:
    slot = Slot(resources, target)
    for ended in range(COUNT - 1):
        await slot.has(ended + 2)
        slot.taking.freed()
    await stopped(slot.taking, slot.running)
    assert slot.begun == [f"{target}-{number}" for number in range(COUNT)]


async def test_where_it_does_not_none_is(resources: Resources, target: str) -> None:
    slot = Slot(resources, target, takes_ahead=False)
    for ended in range(COUNT):
        await slot.has(ended + 1)
        slot.taking.freed()
    await stopped(slot.taking, slot.running)


async def test_what_comes_while_one_runs_is_left_to_whoever_is_idle(resources: Resources) -> None:
    """It looks ahead as a run begins, and only then."""
    target = f"target-{new_id()}"
    await queue.push(resources.redis, target, "account", "first")
    slot = Slot(resources, target)
    await slot.has(1)
    await queue.push(resources.redis, target, "account", "second")
    await slot.has(1)
    assert await left(resources.redis, target) == {"second"}
    await stopped(slot.taking, slot.running)
