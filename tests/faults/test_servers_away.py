"""Redis forgets and comes back empty, and Postgres is away for longer than a lease, in the middle of runs."""

import asyncio
from functools import partial

import pytest

from tests.faults.load import all_ended, let_claims_run_out, rows_of, until
from tests.faults.recovery import recovery
from tests.support.invariants import check_invariants
from tests.support.platform import Platform
from tests.support.receiver import Receiver

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("prepared", ["process"], indirect=True)]

#: Longer than a lease of 20 s, shorter than a run may take.
AWAY_SECONDS = 30.0


async def test_redis_may_forget_everything_and_restart_while_a_prediction_is_heard(
    broken: Platform, receiver: Receiver
) -> None:
    ids = [await _create(broken, receiver, "chatty", count=12, sleep_seconds=0.25)]
    await until(partial(_has_spoken, broken, ids[0]))
    ids.append(await _create(broken, receiver, "chatty", count=1, sleep_seconds=0))
    await broken.resources.redis.flushall()
    ids.append(await _create(broken, receiver, "chatty", count=1, sleep_seconds=0))
    await broken.restart_redis()
    with recovery("redis flushed and restarted"):
        rows = await all_ended(broken, ids)
    assert {(row.status, row.attempt) for row in rows} == {("succeeded", 1)}
    await check_invariants(broken, ids, receiver)


async def test_postgres_may_be_away_for_longer_than_a_lease(broken: Platform, receiver: Receiver) -> None:
    """What runs goes on in its container, and its result is kept until it can be written."""
    ids = [await _create(broken, receiver, "chatty", count=8, sleep_seconds=0.5)]
    await until(partial(_has_spoken, broken, ids[0]))
    ids += [await _create(broken, receiver, "sleeper", text=str(index), seconds=0) for index in range(3)]
    await broken.kill("postgres")
    await asyncio.sleep(AWAY_SECONDS)
    for name in ("node", "scheduler", "webhooks", "jobs", "api"):
        assert broken.processes[name].is_running, broken.processes[name].tail()
    with recovery(f"postgres away for {AWAY_SECONDS:.0f} s"):
        await broken.restart("postgres")
        rows = await all_ended(broken, ids)
    assert {(row.status, row.attempt) for row in rows} == {("succeeded", 1)}, rows
    await let_claims_run_out(broken)
    await check_invariants(broken, ids, receiver)


async def _create(platform: Platform, receiver: Receiver, model: str, **input: object) -> str:
    created = await platform.client.create(
        f"millrace/{model}", input, webhook=receiver.url, webhook_events_filter=["completed"]
    )
    return created["id"]


async def _has_spoken(platform: Platform, id: str) -> bool:
    [row] = await rows_of(platform, [id])
    return bool(row.logs)
