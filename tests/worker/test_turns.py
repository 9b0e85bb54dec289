"""No more have their turn at once than there may be, each waits in its place, and no turn is lost, whoever leaves."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from core.ids import new_id
from tests.support.cog_servers import STREAMING, VERSIONS, CogServers
from worker.cog import CogContainer, HandedOver, TurnCalledOff, TurnMissed, client
from worker.cog.turns import Turns
from worker.events import Done

LONG = 60.0
LIMIT_SECONDS = 60


async def nothing() -> None:
    pass


class Crowd:
    """Comes in an order, and each stays in its turn until told to leave."""

    def __init__(self, count: int) -> None:
        self.turns = Turns(count)
        self.inside: list[str] = []
        self.had_turn: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._leave: dict[str, asyncio.Event] = {}

    async def come(self, id: str, seconds: float = LONG) -> None:
        self._leave[id] = asyncio.Event()
        self.tasks[id] = asyncio.create_task(self._stay(id, seconds))
        await settle()

    async def leave(self, id: str) -> None:
        self._leave[id].set()
        await settle()

    async def _stay(self, id: str, seconds: float) -> None:
        async with self.turns.turn(id, seconds, nothing):
            self.inside.append(id)
            self.had_turn.append(id)
            try:
                await self._leave[id].wait()
            finally:
                self.inside.remove(id)

    async def end(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


async def test_those_who_wait_have_their_turn_in_the_order_in_which_they_came() -> None:
    crowd = Crowd(2)
    for id in "abcde":
        await crowd.come(id)
    assert crowd.inside == ["a", "b"]
    for id in "bacde":
        await crowd.leave(id)
    assert crowd.had_turn == list("abcde")
    await crowd.end()


async def test_one_that_is_called_off_leaves_its_place_to_the_next() -> None:
    crowd = Crowd(1)
    for id in "abc":
        await crowd.come(id)
    assert crowd.turns.call_off("b")
    assert not crowd.turns.call_off("a")
    await crowd.leave("a")
    with pytest.raises(TurnCalledOff):
        await crowd.tasks["b"]
    assert crowd.inside == ["c"]
    await crowd.end()


async def test_one_whose_turn_does_not_come_in_time_is_told() -> None:
    crowd = Crowd(1)
    await crowd.come("a")
    await crowd.come("b", seconds=0.01)
    with pytest.raises(TurnMissed):
        await crowd.tasks["b"]
    await crowd.leave("a")
    await crowd.come("c")
    assert crowd.inside == ["c"]
    await crowd.end()


async def test_all_who_wait_may_be_sent_away() -> None:
    crowd = Crowd(1)
    for id in "abc":
        await crowd.come(id)
    crowd.turns.end(lambda: HandedOver(None))
    for id in "bc":
        with pytest.raises(HandedOver):
            await crowd.tasks[id]
    assert crowd.inside == ["a"]
    await crowd.end()


@given(
    count=st.integers(1, 3),
    deeds=st.lists(st.tuples(st.sampled_from(["leave", "cancel", "call_off", "both"]), st.integers(0, 9)), max_size=30),
)
@bounds(deadline=None, max_examples=60)
def test_whoever_leaves_and_however_no_turn_is_lost_and_none_given_twice(count: int, deeds: list) -> None:
    asyncio.run(shuffle(count, deeds))


async def shuffle(count: int, deeds: list[tuple[str, int]]) -> None:
    crowd = Crowd(count)
    for number in range(10):
        await crowd.come(str(number))
    for deed, number in deeds:
        id = str(number)
        if deed in ("leave", "both"):
            crowd._leave[id].set()
        if deed in ("cancel", "both"):
            # In one breath with a turn that passes on.
            crowd.tasks[id].cancel()
        if deed == "call_off":
            crowd.turns.call_off(id)
        assert len(crowd.inside) <= count
        await settle()
        waiting = [task for task in crowd.tasks.values() if not task.done()]
        assert len(crowd.inside) == min(count, len(waiting))
    await crowd.end()


# --- in a container ---------------------------------------------------------------------------------------------------


async def run(container: CogContainer, id: str, **input: object) -> Done:
    async with asyncio.timeout(LIMIT_SECONDS), container.turn(id):
        return [event async for event in container.predict(id, input)][-1]


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_is_given_to_a_full_container_runs_when_the_one_before_has_ended(
    cog_servers: CogServers, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "TURN_SECONDS", LONG)
    container = await cog_servers.shared(version, "chatty")
    ids = [new_id() for _ in range(4)]
    ended: list[str] = []
    async with asyncio.TaskGroup() as group:
        for id in ids:
            running = group.create_task(run(container, id, count=3, sleep_seconds=0.05))
            running.add_done_callback(lambda task, id=id: ended.append(id + task.result().status))
    assert ended == [id + "succeeded" for id in ids]


async def test_a_cancel_reaches_one_that_waits_and_leaves_the_one_before_alone(cog_servers: CogServers) -> None:
    container = await cog_servers.shared(STREAMING, "chatty")
    first, second = new_id(), new_id()
    running = asyncio.create_task(run(container, first, count=10, sleep_seconds=0.1))
    await settle()
    waiting = asyncio.create_task(run(container, second, count=1, sleep_seconds=0))
    await settle()
    assert await container.cancel(second)
    with pytest.raises(TurnCalledOff):
        await waiting
    assert (await running).status == "succeeded"


async def test_one_that_waits_is_left_to_the_next_client(cog_servers: CogServers) -> None:
    async with cog_servers.own(STREAMING, "chatty") as (server, container), AsyncExitStack() as stack:
        await stack.enter_async_context(container.turn("before"))
        waiting = asyncio.create_task(run(container, "after", count=1, sleep_seconds=0))
        await settle()
        container.leave()
        with pytest.raises(HandedOver) as left:
            await waiting
        assert left.value.kept is None
        assert (await run(cog_servers.client(server), "after", count=1, sleep_seconds=0)).status == "succeeded"
