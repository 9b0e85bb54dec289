"""The queue is fair, loses and repeats nothing, wakes who waits, and can itself be lost."""

import asyncio
from collections import Counter

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as bounds
from hypothesis import strategies as st
from redis.asyncio import Redis

from core import queue
from core.ids import new_id
from core.queue import Priority
from core.redis import SCHEDULER_BELL
from core.resources import Resources


@pytest.fixture
def redis(resources: Resources) -> Redis:
    return resources.redis


@pytest.fixture
def target() -> str:
    return f"{new_id()}@cpu"


async def left_over(redis: Redis, target: str) -> list[str]:
    """Keys that are there for more than a day."""
    return [key for key in await redis.keys(f"queue:{{{target}}}*") if await redis.ttl(key) == -1]


async def test_an_account_with_many_waiting_delays_another_by_one_turn(redis: Redis, target: str) -> None:
    await queue.push_many(redis, [(target, "greedy", f"g{number}", "normal") for number in range(1000)])
    await queue.push(redis, target, "modest", "m")
    assert await queue.take(redis, target, 2) == ["g0", "m"]


async def test_accounts_take_turns_and_each_is_served_in_its_own_order(redis: Redis, target: str) -> None:
    for number in range(3):
        for account in ("a", "b", "c"):
            await queue.push(redis, target, account, f"{account}{number}")
    taken = [await queue.take(redis, target, 1) for _ in range(9)]
    assert [id for [id] in taken] == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]


async def test_pushing_twice_is_pushing_once(redis: Redis, target: str) -> None:
    await queue.push(redis, target, "a", "1")
    await queue.push(redis, target, "a", "1")
    assert await queue.push_many(redis, [(target, "a", "1", "normal"), (target, "a", "2", "normal")]) == 1
    assert await queue.depth(redis, target) == 2
    assert await queue.take(redis, target, 5) == ["1", "2"]


async def test_what_is_put_back_is_the_first_of_its_account_and_no_new_arrival(redis: Redis, target: str) -> None:
    for number in range(3):
        await queue.push(redis, target, "a", f"a{number}")
    assert await queue.take(redis, target, 1) == ["a0"]
    await queue.push(redis, target, "b", "b0")
    await queue.put_back(redis, target, "a", "a0", Priority.NORMAL)
    assert await queue.take(redis, target, 9) == ["a0", "b0", "a1", "a2"]
    arrived = (await queue.arrivals(redis, [target]))[target]
    assert len(arrived) == 4


async def test_what_was_taken_may_come_back(redis: Redis, target: str) -> None:
    await queue.push(redis, target, "a", "1")
    await queue.take(redis, target, 1)
    await queue.push(redis, target, "a", "1")
    assert await queue.take(redis, target, 1) == ["1"]


async def test_removing_takes_it_out_and_only_it(redis: Redis, target: str) -> None:
    for id in ("1", "2", "3"):
        await queue.push(redis, target, "a", id)
    await queue.remove_many(redis, [(target, "a", "2"), (target, "a", "2"), (target, "stranger", "4")])
    assert await queue.take(redis, target, 5) == ["1", "3"]


async def test_an_account_whose_last_one_is_removed_takes_no_turn(redis: Redis, target: str) -> None:
    await queue.push(redis, target, "a", "1")
    await queue.push(redis, target, "b", "2")
    await queue.remove_many(redis, [(target, "a", "1")])
    await queue.push(redis, target, "a", "3")
    assert await queue.take(redis, target, 5) == ["2", "3"]


async def test_nothing_of_an_empty_queue_stays_in_redis(redis: Redis, target: str) -> None:
    await queue.push_many(redis, [(target, account, f"{account}{n}", "normal") for account in "ab" for n in range(100)])
    await queue.take(redis, target, 150)
    await queue.remove_many(redis, [(target, "b", "b99")])
    await queue.take(redis, target, 100)
    assert await left_over(redis, target) == []


async def test_many_takers_lose_nothing_and_repeat_nothing(redis: Redis, target: str) -> None:
    pushed = [f"{account}-{number}" for number in range(40) for account in ("a", "b", "c", "d")]

    async def push_all() -> None:
        for id in pushed:
            await queue.push(redis, target, id[0], id)

    async def take_all(taken: list[str]) -> None:
        while len(taken) < len(pushed):
            if found := await queue.take(redis, target, 3):
                taken += found
            elif len(taken) < len(pushed):
                await queue.wait(redis, target)

    taken: list[str] = []
    takers = [asyncio.create_task(take_all(taken)) for _ in range(4)]
    await push_all()
    await asyncio.wait_for(asyncio.wait(takers, return_when=asyncio.FIRST_COMPLETED), 30)
    for taker in takers:
        taker.cancel()
    await asyncio.wait(takers)
    assert Counter(taken) == Counter(pushed)


async def test_a_blocked_taker_wakes_when_something_comes(redis: Redis, target: str) -> None:
    waiting = asyncio.create_task(queue.wait(redis, target))
    await asyncio.sleep(0)
    await queue.push(redis, target, "a", "1")
    await asyncio.wait_for(waiting, 4.5)
    assert await queue.take(redis, target, 1) == ["1"]


async def test_a_taker_that_leaves_some_leaves_the_bell_ringing(redis: Redis, target: str) -> None:
    """Whoever took the token and one prediction must not leave the other takers asleep on the rest."""
    await queue.push(redis, target, "a", "1")
    await queue.wait(redis, target)
    await queue.push_many(redis, [(target, "a", "2", "normal"), (target, "b", "3", "normal")])
    for _ in range(2):
        await queue.wait(redis, target)
    assert await queue.take(redis, target, 1) == ["1"]
    await asyncio.wait_for(queue.wait(redis, target), 4.5)


async def test_the_scheduler_is_woken_only_where_nobody_serves(redis: Redis, target: str) -> None:
    await redis.delete(SCHEDULER_BELL)
    await queue.announce(redis, target)
    await queue.push(redis, target, "a", "1")
    assert not await redis.exists(SCHEDULER_BELL)
    await queue.withdraw(redis, target)
    await queue.push(redis, target, "a", "2")
    assert await redis.exists(SCHEDULER_BELL)


async def test_a_redis_that_forgot_everything_takes_pushes_again(redis: Redis, target: str) -> None:
    await queue.push(redis, target, "a", "1")
    await redis.script_flush()
    await redis.flushall()
    assert await queue.push_many(redis, [(target, "a", "1", "normal"), (target, "a", "2", "normal")]) == 2
    await redis.script_flush()
    assert await queue.take(redis, target, 5) == ["1", "2"]


async def test_the_latest_arrivals_are_kept_newest_first(redis: Redis, target: str) -> None:
    other = f"{target}-other"
    assert await queue.arrivals(redis, []) == {}
    assert await queue.arrivals(redis, [target]) == {target: ()}
    for number in range(queue.ARRIVALS + 8):
        await queue.push(redis, target, "a", str(number))
    await queue.push(redis, other, "a", "1")
    found = await queue.arrivals(redis, [target, other])
    ages = found[target]
    assert (len(ages), len(found[other])) == (queue.ARRIVALS, 1)
    assert list(ages) == sorted(ages)
    assert 0 <= found[other][0] <= ages[0]


async def test_what_is_pushed_again_has_not_arrived_again(redis: Redis, target: str) -> None:
    await queue.push_many(redis, [(target, "a", "lost with Redis", "normal")])
    assert await queue.arrivals(redis, [target]) == {target: ()}
    for _ in range(2):
        await queue.push(redis, target, "a", "1")
    assert len((await queue.arrivals(redis, [target]))[target]) == 1


async def test_low_waits_for_normal_and_is_fair_among_itself(redis: Redis, target: str) -> None:
    for number in range(2):
        for account in ("a", "b"):
            await queue.push(redis, target, account, f"low {account}{number}", Priority.LOW)
    await queue.push(redis, target, "a", "normal")
    taken = [await queue.take(redis, target, 1) for _ in range(5)]
    assert [id for [id] in taken] == ["normal", "low a0", "low b0", "low a1", "low b1"]
    assert not await left_over(redis, target)


async def test_a_batch_gets_one_take_in_twenty_however_much_is_normal(redis: Redis, target: str) -> None:
    await queue.push_many(redis, [(target, "busy", str(number), "normal") for number in range(100)])
    await queue.push_many(redis, [(target, "batch", f"low{number}", "low") for number in range(3)])
    taken = [id for _ in range(20) for id in await queue.take(redis, target, 3)]
    at = [index for index, id in enumerate(taken) if id.startswith("low")]
    assert at == [queue.LOW_EVERY - 1, 2 * queue.LOW_EVERY - 1, 3 * queue.LOW_EVERY - 1]


async def test_what_is_low_is_removed_like_the_rest(redis: Redis, target: str) -> None:
    await queue.push(redis, target, "a", "1")
    await queue.push(redis, target, "a", "2", Priority.LOW)
    await queue.push(redis, target, "b", "3", Priority.LOW)
    await queue.take(redis, target, 1)
    await queue.remove_many(redis, [(target, "a", "2"), (target, "b", "3")])
    assert await queue.take(redis, target, 5) == []
    assert not await left_over(redis, target)


async def test_an_instance_that_leaves_passes_on_what_came_meanwhile(redis: Redis, target: str) -> None:
    """The last Instance goes just as a prediction comes: nobody else was told of it, so the scheduler must be."""
    await queue.announce(redis, target)
    await queue.push(redis, target, "a", "the first call")
    await queue.wait(redis, target)
    await redis.delete(SCHEDULER_BELL)
    await queue.withdraw(redis, target)
    assert await redis.exists(SCHEDULER_BELL)
    await asyncio.wait_for(queue.wait(redis, target), 4.5)
    assert await queue.take(redis, target, 1) == ["the first call"]
    await redis.delete(SCHEDULER_BELL)
    await queue.withdraw(redis, target)
    assert not await redis.exists(SCHEDULER_BELL), "nothing waits here"


@given(st.lists(st.sampled_from("abcd"), max_size=30), st.integers(0, 30))
@bounds(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whoever_comes_waits_at_most_one_turn_for_each_other_account(
    redis: Redis, accounts: list[str], turns: int
) -> None:
    target = f"{new_id()}@cpu"
    await queue.push_many(redis, [(target, who, f"{who}{number}", "normal") for number, who in enumerate(accounts)])
    await queue.take(redis, target, turns)
    await queue.push(redis, target, "newcomer", "mine")
    assert "mine" in await queue.take(redis, target, len(set(accounts)) + 1)


async def ahead(redis: Redis, target: str, account: str, id: str) -> int | None:
    return (await queue.standing(redis, target, account, id)).ahead


WAITING = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["normal", "low"])), min_size=1, max_size=12)


@given(WAITING, st.integers(0, 11), st.integers(2, 5))
# Each example has a target of its own.
@bounds(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_so_many_are_taken_before_it_as_were_said_to_be_ahead(
    redis: Redis, accounts: list[tuple[str, str]], turns: int, low_every: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "LOW_EVERY", low_every)
        target = f"{new_id()}@cpu"
        waiting = [(target, who, f"{who}{number}", lane) for number, (who, lane) in enumerate(accounts)]
        await queue.push_many(redis, waiting)
        await queue.take(redis, target, min(turns, len(waiting) - 1))
        said = {id: await ahead(redis, target, account, id) for _, account, id, _ in waiting}
        order = await queue.take(redis, target, len(waiting))
    assert {id: count for id, count in said.items() if count is not None} == {id: i for i, id in enumerate(order)}


async def test_far_back_in_a_long_list_the_position_is_unknown(redis: Redis, target: str) -> None:
    await queue.push_many(redis, [(target, "a", str(number), "normal") for number in range(queue.SEARCHED + 1)])
    last = queue.SEARCHED - 1
    assert await ahead(redis, target, "a", str(last)) == last
    assert await ahead(redis, target, "a", str(last + 1)) is None
    await queue.take(redis, target, 1)
    assert await ahead(redis, target, "a", str(last + 1)) == last
