"""A run keeps enough money held for what it costs; where there is no more it is told to stop, and none is overspent."""

import asyncio

import pytest
from sqlalchemy import Row

from core import predictions
from core.clock import monotonic
from core.errors import PaymentRequired
from core.ids import new_id
from core.lifecycle import PredictionStatus
from core.money import credits, holds, prices, wallets
from core.money.pricing import MICROS_PER_SECOND, NANOS_PER_DOLLAR
from core.people import accounts
from core.predictions import Outcome
from core.resources import Resources
from tests.support.factories import add_instance, add_node, add_prediction, add_runnable
from worker.allowance import Allowance

#: A dollar a second: what is held runs out while one watches.
PRICE = NANOS_PER_DOLLAR
STARTING = 20 * PRICE


async def running(resources: Resources, hold: int, when_empty: str = wallets.STOP, credit: int = STARTING) -> Row:
    """A prediction that runs, of a prepaid account with so much credit."""
    async with resources.database.transaction() as tx:
        account = await accounts.ensure(tx, new_id(), "somebody")
        await wallets.set_terms(tx, account.id, credit_limit_nanos=0, when_empty=when_empty)
        await credits.add(tx, account.id, kind="paid", amount_nanos=credit, reason="test", actor="test")
        runnable = await add_runnable(tx)
        await prices.put(tx, kind="hardware", subject=runnable.hardware_sku, nanos_per_unit=PRICE, created_by="test")
        node = await add_node(tx)
        instance = await add_instance(tx, node, runnable)
    row = await add_prediction(resources.database, account.id, runnable, hold_nanos=hold)
    async with resources.database.transaction() as tx:
        return await predictions.start(tx, row.id, instance, node.boot_id)


async def settle(resources: Resources, row: Row, seconds: float) -> Row:
    """Ends it after so long, and returns its account's wallet."""
    outcome = Outcome(PredictionStatus.SUCCEEDED, micros=int(seconds * MICROS_PER_SECOND))
    async with resources.database.transaction() as tx:
        await predictions.finish(tx, row.id, row.attempt, outcome)
    async with resources.database.autocommit() as tx:
        return await wallets.get(tx, row.account_id)


async def test_a_run_whose_hold_is_nearly_used_up_holds_more(resources: Resources) -> None:
    row = await running(resources, hold=PRICE, credit=1000 * PRICE)
    keeping = asyncio.create_task(Allowance(resources.database, row, pytest.fail).keep())
    for _ in range(500):
        if (await find(resources, row)).held_nanos > PRICE:
            break
        await asyncio.sleep(0.02)
    keeping.cancel()
    wallet = await settle(resources, row, 3.5)
    assert (wallet.balance_nanos, wallet.held_nanos) == (1000 * PRICE - int(3.5 * PRICE), 0)


async def test_it_is_told_to_stop_when_all_is_used_up_and_not_before(resources: Resources) -> None:
    row = await running(resources, hold=PRICE // 4, credit=PRICE)
    stopped = asyncio.Event()
    began = monotonic()
    async with asyncio.timeout(10):
        await Allowance(resources.database, row, stopped.set).keep()
    assert stopped.is_set()
    assert monotonic() - began >= 1.0, "the dollar pays for a second"
    wallet = await settle(resources, row, 1.4)
    assert (wallet.balance_nanos, wallet.held_nanos) == (0, 0), "what it cost beyond its money is not asked for"


async def test_what_may_finish_is_owed(resources: Resources) -> None:
    row = await running(resources, hold=PRICE, when_empty=wallets.FINISH, credit=2 * PRICE)
    allowance = Allowance(resources.database, row, pytest.fail)
    await allowance.cover(7 * PRICE)
    wallet = await settle(resources, row, 7.0)
    assert (wallet.balance_nanos, wallet.held_nanos) == (-5 * PRICE, 0)


async def test_what_a_run_has_cost_is_covered_as_far_as_there_is_money(resources: Resources) -> None:
    row = await running(resources, hold=PRICE, credit=3 * PRICE)
    await Allowance(resources.database, row, pytest.fail).cover(7 * PRICE)
    wallet = await settle(resources, row, 7.0)
    assert (wallet.balance_nanos, wallet.held_nanos) == (0, 0)


async def test_a_run_that_is_another_attempts_asks_for_nothing(resources: Resources) -> None:
    row = await running(resources, hold=PRICE)
    await settle(resources, row, 0.5)
    async with asyncio.timeout(10):
        await Allowance(resources.database, row, pytest.fail).keep()
    async with resources.database.autocommit() as tx:
        assert (await wallets.get(tx, row.account_id)).held_nanos == 0


async def test_more_than_there_is_cannot_be_held(resources: Resources) -> None:
    row = await running(resources, hold=PRICE, credit=2 * PRICE)
    with pytest.raises(PaymentRequired):
        async with resources.database.transaction() as tx:
            await holds.extend(tx, row.id, row.attempt, PRICE + 1)
    assert (await find(resources, row)).held_nanos == PRICE


async def find(resources: Resources, row: Row) -> Row:
    async with resources.database.autocommit() as tx:
        return await predictions.find(tx, row.id)
