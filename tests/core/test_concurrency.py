"""An account runs so many predictions at once and no more, whatever is lost; the others wait, and are told why."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from sqlalchemy import Row, select

from core import concurrency, predictions, queue
from core.lifecycle import PredictionStatus
from core.people import accounts
from core.predictions import Outcome
from core.queue import Priority
from core.redis import LIMITS, SCHEDULER_BELL, running_key
from core.tables import AuditEvent
from tests.core.conftest import Scene
from tests.support.factories import add_account, add_prediction, add_runnable


@pytest.fixture
def redis(scene: Scene) -> Redis:
    return scene.resources.redis


@pytest.fixture(autouse=True)
async def nobody_else_is_limited(scene: Scene) -> AsyncIterator[None]:
    yield
    await scene.resources.redis.delete(LIMITS, running_key(scene.account.id))
    async with scene.resources.database.transaction() as tx:
        await accounts.limit_running(tx, scene.account.id, None)


async def limit(scene: Scene, most: int | None) -> None:
    async with scene.resources.database.transaction() as tx:
        await accounts.limit_running(tx, scene.account.id, most)


async def refresh(scene: Scene, default: int = 0) -> None:
    async with scene.resources.database.autocommit() as tx:
        await concurrency.refresh(tx, scene.resources.redis, default)


async def wait(scene: Scene, count: int, **fields: object) -> list[str]:
    database = scene.resources.database
    return [(await add_prediction(database, scene.account.id, scene.runnable, **fields)).id for _ in range(count)]


async def take(scene: Scene, count: int = 10) -> list[str]:
    return await queue.take(scene.resources.redis, scene.runnable.target, count)


async def start(scene: Scene, id: str) -> Row:
    async with scene.resources.database.autocommit() as tx:
        return await predictions.start(tx, id, *scene.holder)


async def finish(scene: Scene, row: Row) -> None:
    async with scene.resources.database.transaction() as tx:
        await predictions.finish(tx, row.id, row.attempt, Outcome(PredictionStatus.SUCCEEDED, output="x", micros=1))


async def rings(scene: Scene) -> bool:
    return bool(await scene.resources.redis.exists(f"queue:{{{scene.runnable.target}}}:bell"))


async def test_so_many_are_taken_and_the_next_as_soon_as_one_ends(scene: Scene, redis: Redis) -> None:
    await limit(scene, 2)
    first, second, third, fourth = await wait(scene, 4)
    assert await take(scene) == [first, second]
    assert await take(scene) == []
    assert not await rings(scene), "a taker would turn for nothing"
    row = await start(scene, first)
    taker = asyncio.create_task(queue.wait(redis, scene.runnable.target))
    await redis.delete(SCHEDULER_BELL)
    await finish(scene, row)
    await asyncio.wait_for(taker, 4.5)
    assert await redis.exists(SCHEDULER_BELL), "nobody serves this target, so the scheduler is to look"
    assert await take(scene) == [third]
    async with scene.resources.database.transaction() as tx:
        await predictions.cancel(tx, scene.account.id, second)
    assert await rings(scene), "one that was taken and canceled before its start has ended, too"
    assert await take(scene) == [fourth]


async def test_an_account_at_its_limit_keeps_its_place_and_holds_up_nobody(scene: Scene, redis: Redis) -> None:
    await limit(scene, 1)
    mine = await wait(scene, 3)
    async with scene.resources.database.transaction() as tx:
        others = [await add_account(tx) for _ in range(2)]
    theirs = [
        (await add_prediction(scene.resources.database, other.id, scene.runnable)).id
        for _ in range(2)
        for other in others
    ]
    assert [await take(scene, 1) for _ in range(4)] == [[mine[0]], [theirs[0]], [theirs[1]], [theirs[2]]]
    await concurrency.release(redis, [(scene.account.id, mine[0])])
    assert await take(scene, 2) == [mine[1], theirs[3]], "it was its turn, and still is"


async def test_the_limit_holds_over_all_targets_together(scene: Scene, redis: Redis) -> None:
    await limit(scene, 1)
    async with scene.resources.database.transaction() as tx:
        other = await add_runnable(tx)
    [mine] = await wait(scene, 1)
    elsewhere = (await add_prediction(scene.resources.database, scene.account.id, other)).id
    assert await take(scene) == [mine]
    assert await queue.take(redis, other.target, 1) == []
    taker = asyncio.create_task(queue.wait(redis, other.target))
    await finish(scene, await start(scene, mine))
    await asyncio.wait_for(taker, 4.5)
    assert await queue.take(redis, other.target, 1) == [elsewhere]


async def test_many_takers_at_once_pass_no_limit(scene: Scene, redis: Redis) -> None:
    await limit(scene, 3)
    await wait(scene, 10)
    taken = await asyncio.gather(*(take(scene, 2) for _ in range(20)))
    assert len([id for ids in taken for id in ids]) == 3


async def test_a_limit_holds_at_once_for_what_runs_already_and_stops_none_of_it(scene: Scene) -> None:
    ids = await wait(scene, 4)
    rows = [await start(scene, id) for id in await take(scene, 2)]
    await limit(scene, 2)
    assert await take(scene) == []
    await limit(scene, 3)
    assert await rings(scene), "there is room again, and nobody else says so"
    assert await take(scene) == [ids[2]]
    await limit(scene, 1)
    await finish(scene, rows[0])
    await finish(scene, rows[1])
    assert await take(scene) == []
    await limit(scene, 0)
    assert await take(scene) == [ids[3]]


async def test_a_limit_is_on_record_with_the_one_before(scene: Scene) -> None:
    await limit(scene, 4)
    await limit(scene, None)
    async with scene.resources.database.autocommit() as tx:
        asked = select(AuditEvent.before, AuditEvent.after).where(
            AuditEvent.account_id == scene.account.id, AuditEvent.action == "account.limit"
        )
        events = await tx.all(asked.order_by(AuditEvent.number))
    assert [(event.before, event.after) for event in events] == [
        ({"max_running": None}, {"max_running": 4}),
        ({"max_running": 4}, {"max_running": None}),
    ]


async def test_what_redis_forgot_is_known_again_from_rows(scene: Scene, redis: Redis) -> None:
    await limit(scene, 2)
    ids = await wait(scene, 3)
    row, _ = [await start(scene, id) for id in await take(scene)]
    await redis.flushall()
    await refresh(scene)
    await queue.push_many(redis, [(scene.runnable.target, scene.account.id, ids[2], "normal")])
    assert await take(scene) == []
    await finish(scene, row)
    assert await take(scene) == [ids[2]]


async def test_the_default_holds_for_who_has_no_limit_of_their_own(scene: Scene) -> None:
    ids = await wait(scene, 3)
    await refresh(scene, default=1)
    assert await take(scene) == [ids[0]]
    await limit(scene, 0)
    await refresh(scene, default=1)
    assert await take(scene) == ids[1:], "0: it has a limit of its own, which is none"


async def test_a_default_that_is_lifted_wakes_whoever_it_kept_back(scene: Scene) -> None:
    ids = await wait(scene, 2)
    await refresh(scene, default=1)
    assert await take(scene) == [ids[0]]
    await refresh(scene)
    assert await rings(scene)
    assert await take(scene) == [ids[1]]


async def test_whoever_took_one_and_died_gives_its_place_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await limit(scene, 1)
    ids = await wait(scene, 2)
    assert await take(scene) == [ids[0]]
    await refresh(scene)
    assert await take(scene) == [], "it may be about to start"
    monkeypatch.setattr(concurrency, "GRACE_SECONDS", -1.0)
    await refresh(scene)
    assert await rings(scene)
    assert await take(scene) == [ids[1]]


async def test_what_runs_is_counted_and_what_has_ended_is_not_however_often_rows_are_read(
    scene: Scene, redis: Redis
) -> None:
    await limit(scene, 3)
    await wait(scene, 3)
    rows = [await start(scene, id) for id in await take(scene)]
    await refresh(scene)
    await finish(scene, rows[0])
    await refresh(scene)
    counted = {id for account, id in await concurrency.running(redis) if account == scene.account.id}
    assert counted == {row.id for row in rows[1:]}


@pytest.mark.parametrize("priority", Priority)
async def test_what_is_queued_again_keeps_its_lane_and_no_longer_counts(scene: Scene, priority: Priority) -> None:
    """Lost work: its node died. It has had its turn; with a limit of one it must not stand in its own way."""
    await limit(scene, 1)
    [id] = await wait(scene, 1, priority=priority)
    [other] = await wait(scene, 1)
    assert await queue.take(scene.resources.redis, scene.runnable.target, 1) == [other if priority == "low" else id]
    taken = await start(scene, other if priority == "low" else id)
    if priority == "low":
        await finish(scene, taken)
        assert await take(scene) == [id]
        taken = await start(scene, id)
    async with scene.resources.database.transaction() as tx:
        await predictions.interrupt(tx, id, taken.attempt, allows_retry=True)
    [late] = await wait(scene, 1)
    async with scene.resources.database.autocommit() as tx:
        assert (await predictions.find(tx, id)).priority == priority
    expected = [late, id] if priority == "low" else [id, other, late]
    for next_id in expected:
        assert await take(scene) == [next_id]
        await concurrency.release(scene.resources.redis, [(scene.account.id, next_id)])


async def test_who_is_kept_back_is_told_by_what(scene: Scene, redis: Redis) -> None:
    await limit(scene, 1)
    ids = await wait(scene, 2)
    target = scene.runnable.target
    assert await queue.standing(redis, target, scene.account.id, ids[0]) == (0, None)
    assert await queue.standing(redis, target, scene.account.id, ids[1]) == (1, 1)
    await take(scene)
    assert await queue.standing(redis, target, scene.account.id, ids[1]) == (0, 1)
    assert concurrency.reason(4).startswith("You run 4 predictions at once, the most your account may;")
    assert "1 prediction," in concurrency.reason(1)


async def test_those_kept_back_ask_for_no_instances(scene: Scene) -> None:
    async with scene.resources.database.autocommit() as tx:
        before = await concurrency.kept_back(tx, 0)
    assert scene.runnable.target not in before
    await limit(scene, 2)
    await wait(scene, 5)
    async with scene.resources.database.autocommit() as tx:
        assert (await concurrency.kept_back(tx, 0))[scene.runnable.target] == 3
    await start(scene, (await take(scene, 1))[0])
    async with scene.resources.database.autocommit() as tx:
        assert (await concurrency.kept_back(tx, 0))[scene.runnable.target] == 3
    await limit(scene, None)
    async with scene.resources.database.autocommit() as tx:
        assert scene.runnable.target not in await concurrency.kept_back(tx, 0)
        assert (await concurrency.kept_back(tx, 1))[scene.runnable.target] == 4


async def test_an_end_that_woke_nobody_is_found(scene: Scene, redis: Redis) -> None:
    """Its runner died between discounting it and waking those who wait for it."""
    await limit(scene, 1)
    ids = await wait(scene, 2)
    assert await take(scene, 2) == [ids[0]]
    await redis.zrem(running_key(scene.account.id), ids[0])
    await refresh(scene)
    assert await rings(scene)
    assert await take(scene) == [ids[1]]


async def test_a_crowd_at_its_limit_is_passed_a_hundred_at_a_time(scene: Scene, redis: Redis) -> None:
    target, crowd = scene.runnable.target, [f"{scene.account.id}-{number}" for number in range(250)]
    for account_id in crowd:
        await concurrency.set_limit(redis, account_id, 1, [f"running of {account_id}"])
    await queue.push_many(redis, [(target, account_id, account_id, "normal") for account_id in crowd])
    await queue.push(redis, target, scene.account.id, "mine")
    for _ in range(2):
        assert await take(scene, 1) == []
        assert await rings(scene), "whoever took nothing comes again at once"
    assert await take(scene, 1) == ["mine"]
    await redis.delete(*map(running_key, crowd))
    await queue.remove_many(redis, [(target, account_id, account_id) for account_id in crowd])
    await queue.wake(redis, crowd)
