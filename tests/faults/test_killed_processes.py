"""One process is killed with -9 in the middle of fifty predictions, and started again as its supervisor would."""

import asyncio

import aiohttp
import pytest
from sqlalchemy import func, select

from core.lifecycle import FailureCode
from core.tables import Prediction
from tests.faults.load import all_ended, let_claims_run_out, middle, not_succeeded, rows_of, start_fifty
from tests.faults.recovery import recovery
from tests.support.invariants import check_invariants
from tests.support.platform import Platform
from tests.support.receiver import Receiver

pytestmark = pytest.mark.faults

#: Redis is away for a moment, as when its container is replaced.
AWAY_SECONDS = 1.0


async def test_killing_the_node_costs_at_most_what_had_said_something(broken: Platform, receiver: Receiver) -> None:
    ids = await start_fifty(broken, receiver)
    await middle(broken, ids)
    await broken.kill("node")
    running = {row.id for row in await rows_of(broken, ids) if row.status == "processing"}
    await broken.restart("node")
    rows = await all_ended(broken, ids)
    failed = [row for row in rows if row.status != "succeeded"]
    assert {row.failure_code for row in failed} <= {FailureCode.NODE_LOST}, not_succeeded(rows)
    assert {row.id for row in failed} <= running
    assert all(row.output or row.logs for row in failed), "what had said nothing runs again"
    await check_invariants(broken, ids, receiver)


async def test_killing_the_api_costs_nothing_but_what_is_asked_meanwhile(broken: Platform, receiver: Receiver) -> None:
    ids = await start_fifty(broken, receiver)
    await middle(broken, ids)
    before = await _count(broken)
    await broken.kill("api")
    for _ in range(3):
        with pytest.raises(aiohttp.ClientError):
            await broken.client.create("millrace/no-op", {"text": "nobody hears"})
    await broken.restart("api")
    assert await _count(broken) == before
    answers = [await broken.client.finished(id) for id in ids]
    assert {answer["status"] for answer in answers} == {"succeeded"}
    await check_invariants(broken, ids, receiver)


async def test_killing_the_scheduler_costs_nothing(broken: Platform, receiver: Receiver) -> None:
    ids = await start_fifty(broken, receiver)
    await middle(broken, ids)
    await broken.kill("scheduler")
    await broken.restart("scheduler")
    assert not not_succeeded(await all_ended(broken, ids))
    await check_invariants(broken, ids, receiver)


async def test_losing_redis_and_all_it_held_costs_nothing(broken: Platform, receiver: Receiver) -> None:
    ids = await start_fifty(broken, receiver)
    await middle(broken, ids)
    await broken.kill("redis")
    ids.append(await _create(broken, receiver))
    await asyncio.sleep(AWAY_SECONDS)
    await broken.restart("redis")
    ids.append(await _create(broken, receiver))
    assert not not_succeeded(await all_ended(broken, ids))
    await check_invariants(broken, ids, receiver)


@pytest.mark.parametrize("prepared", ["process"], indirect=True)
async def test_killing_the_webhook_sender_delays_webhooks_and_loses_none(broken: Platform, receiver: Receiver) -> None:
    ids = await start_fifty(broken, receiver)
    await middle(broken, ids)
    await broken.kill("webhooks")
    assert not not_succeeded(await all_ended(broken, ids))
    await broken.restart("webhooks")
    await let_claims_run_out(broken)
    await check_invariants(broken, ids, receiver)


@pytest.mark.parametrize("prepared", ["process"], indirect=True)
async def test_killing_postgres_costs_nothing(broken: Platform, receiver: Receiver) -> None:
    ids = await start_fifty(broken, receiver)
    await middle(broken, ids)
    await broken.kill("postgres")
    with recovery("postgres killed"):
        await broken.restart("postgres")
        rows = await all_ended(broken, ids)
    assert not not_succeeded(rows)
    await let_claims_run_out(broken)
    await check_invariants(broken, ids, receiver)


async def _create(platform: Platform, receiver: Receiver) -> str:
    created = await platform.client.create("millrace/no-op", {"text": "meanwhile"}, webhook=receiver.url)
    return created["id"]


async def _count(platform: Platform) -> int:
    async with platform.resources.database.autocommit() as tx:
        return await tx.scalar(select(func.count()).select_from(Prediction))
