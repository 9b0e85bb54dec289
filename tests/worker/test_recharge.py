"""From a wallet that runs low to a charged card: sweep, queue, and the process that works through it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import Unavailable
from core.jobs import QUEUE, JobQueue
from core.resources import Resources
from core.settings import process_environment
from scheduler.sweeps import recharge, settle
from scheduler.sweeps.base import Context
from tests.support.paying import Till, dollars, open_till, settings_for
from tests.support.process import Process

#: A hang ends the test, not the run.
WAIT_SECONDS = 60


@pytest.fixture
async def till(resources: Resources, clean_database: None) -> AsyncIterator[Till]:
    async with open_till(resources) as till:
        yield till


@pytest.fixture
async def context(resources: Resources, till: Till) -> AsyncIterator[Context]:
    settings = settings_for(resources.settings, till.stripe)
    jobs = JobQueue(settings)
    yield Context(replace(resources, settings=settings), jobs, 60.0)
    jobs.close()


async def waiting(resources: Resources) -> int:
    return await resources.redis.llen(f"rq:queue:{QUEUE}")


async def test_low_wallets_are_recharged_and_lost_payments_found_by_the_jobs_process(
    till: Till, context: Context, tmp_path: Path
) -> None:
    low, cut_off, rich = await till.saved(), await till.saved(), await till.account()
    till.stripe.lost_answers = 1
    with pytest.raises(Unavailable, match="Nothing is charged twice"):
        await till.recharge(cut_off)
    [lost] = await till.recharges(cut_off)
    await till.age(lost.id, 90)
    for _ in range(3):
        await recharge.run(context)
        await settle.run(context)
    # Each is asked for once, however often the sweeps find it.
    assert await waiting(till.resources) == 2

    settings = context.resources.settings
    given = {f"MILLRACE_{name.upper()}": str(getattr(settings, name)) for name in settings.model_fields_set}
    command = (sys.executable, "-m", "worker", "jobs")
    process = Process("jobs", command, {**process_environment(), **given}, tmp_path / "jobs.log")
    process.start()
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while {await till.balance(low), await till.balance(cut_off)} != {dollars(50)}:
                assert process.is_running, process.tail()
                await asyncio.sleep(0.1)
    finally:
        await process.stop()
    assert await till.balance(rich) == 0
    assert len(till.stripe.charges) == 4


async def test_what_was_done_may_be_asked_for_again(till: Till, context: Context) -> None:
    account = await till.saved()
    assert await context.jobs.recharge(account.id)
    assert not await context.jobs.recharge(account.id)
    assert await context.jobs.settle_top_ups(account.id)
    await till.resources.redis.flushall()
    assert await context.jobs.recharge(account.id)


async def test_without_a_key_nothing_is_asked_for(till: Till, context: Context, resources: Resources) -> None:
    await till.saved()
    switched_off = replace(context, resources=resources)
    await recharge.run(switched_off)
    await settle.run(switched_off)
    assert await waiting(resources) == 0
