"""Money moves once, sums to zero, never exceeds what was run, and what is written about it stays written."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import settings as bounds
from hypothesis import strategies as st
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from core import predictions
from core.clock import now
from core.lifecycle import PredictionStatus
from core.money import ledger
from core.money.pricing import MICROS_PER_SECOND, NANOS_PER_DOLLAR, amount_nanos, dollars
from core.predictions import Outcome
from core.tables import LedgerEntry, UsageRecord
from core.usage import metering, usage
from tests.core.conftest import Scene
from tests.support.factories import PRICE_NANOS_PER_SECOND, add_prediction

micros = st.integers(0, 30 * 24 * 3600 * MICROS_PER_SECOND)
prices = st.integers(0, NANOS_PER_DOLLAR // 10)


@bounds(max_examples=200, deadline=None)
@given(micros, prices)
def test_an_amount_never_exceeds_what_was_run_and_misses_less_than_a_nanodollar(ran: int, price: int) -> None:
    amount = amount_nanos(ran, price)
    assert 0 <= ran * price - amount * MICROS_PER_SECOND < MICROS_PER_SECOND


@bounds(max_examples=100, deadline=None)
@given(micros, micros, prices)
def test_running_longer_never_costs_less_and_splitting_a_run_never_costs_more(a: int, b: int, price: int) -> None:
    whole = amount_nanos(a + b, price)
    assert amount_nanos(a, price) <= whole
    assert amount_nanos(a, price) + amount_nanos(b, price) <= whole


@bounds(max_examples=100, deadline=None)
@given(st.integers(-(10**18), 10**18))
def test_dollars_are_exact(nanos: int) -> None:
    written = dollars(nanos)
    whole, _, part = written.partition(".")
    assert len(part) == 9
    assert int(whole + part) == nanos


async def run_for(scene: Scene, ran: int | None) -> str:
    waiting = await add_prediction(scene.resources.database, scene.account.id, scene.runnable)
    async with scene.resources.database.transaction() as tx:
        row = await predictions.start(tx, waiting.id, *scene.holder)
        await predictions.finish(tx, row.id, row.attempt, Outcome(PredictionStatus.SUCCEEDED, micros=ran))
    return waiting.id


async def test_sql_and_python_agree_on_every_amount(scene: Scene) -> None:
    for ran in (0, 1, 2, 1_379, 999_999, 1_000_001, 24 * 3600 * MICROS_PER_SECOND):
        id = await run_for(scene, ran)
        async with scene.resources.database.autocommit() as tx:
            record = await tx.one(select(UsageRecord).where(UsageRecord.cause_id == id))
        assert record.amount_nanos == amount_nanos(ran, PRICE_NANOS_PER_SECOND)
        assert record.day == record.ended_at.date()


async def test_the_balance_is_the_sum_of_what_was_charged(scene: Scene) -> None:
    account = ledger.account(scene.account.id)
    async with scene.resources.database.autocommit() as tx:
        revenue = await ledger.balance(tx, ledger.REVENUE)
        assert await ledger.balance(tx, account) == 0
    for ran in (1_000_000, 2_500_000, None):
        await run_for(scene, ran)
    owed = amount_nanos(1_000_000, PRICE_NANOS_PER_SECOND) + amount_nanos(2_500_000, PRICE_NANOS_PER_SECOND)
    async with scene.resources.database.autocommit() as tx:
        assert await ledger.balance(tx, account) == -owed
        assert await ledger.balance(tx, ledger.REVENUE) == revenue + owed


async def test_usage_is_summed_by_day_model_and_hardware(scene: Scene) -> None:
    for ran in (1_000_000, 2_000_000):
        await run_for(scene, ran)
    today = now().date()
    async with scene.resources.database.autocommit() as tx:
        [row] = await usage.summary(tx, scene.account.id, today - timedelta(days=1), today)
        assert await usage.summary(tx, scene.account.id, date(2020, 1, 1), date(2020, 1, 2)) == []
    assert row == {
        "day": row["day"],
        "model": scene.runnable.model,
        "hardware_sku": scene.runnable.hardware_sku,
        "runs": 2,
        "micros": 3_000_000,
        "amount_nanos": 3 * PRICE_NANOS_PER_SECOND,
    }


def test_the_last_days_include_today() -> None:
    assert metering.last_days(date(2026, 3, 1), 1) == (date(2026, 3, 1), date(2026, 3, 1))
    assert metering.last_days(date(2026, 3, 1), 2) == (date(2026, 2, 28), date(2026, 3, 1))


@pytest.mark.parametrize("table", ["usage_records", "ledger_entries"])
@pytest.mark.parametrize("change", ["UPDATE {} SET amount_nanos = 0", "DELETE FROM {}"])
async def test_what_is_written_about_money_stays_written(scene: Scene, table: str, change: str) -> None:
    await run_for(scene, 1_000_000)
    with pytest.raises(DBAPIError, match="append-only: write a correction"):
        async with scene.resources.database.transaction() as tx:
            await tx.execute(text(change.format(table)))


async def test_a_second_charge_for_one_cause_is_impossible_whoever_tries(scene: Scene) -> None:
    """The keys refuse it, not the callers' care."""
    id = await run_for(scene, 1_000_000)
    async with scene.resources.database.autocommit() as tx:
        record = await tx.one(select(UsageRecord).where(UsageRecord.cause_id == id))
        [entry, _] = await tx.all(select(LedgerEntry).where(LedgerEntry.usage_record_id == record.id))
    for table, row in ((UsageRecord, record), (LedgerEntry, entry)):
        with pytest.raises(IntegrityError):
            async with scene.resources.database.transaction() as tx:
                await tx.execute(table.__table__.insert().values(row._asdict() | {"id": "another"}))


async def test_every_transaction_of_the_ledger_sums_to_zero(scene: Scene) -> None:
    await run_for(scene, 1_234_567)
    async with scene.resources.database.autocommit() as tx:
        total = func.sum(LedgerEntry.amount_nanos)
        assert not await tx.all(select(LedgerEntry.transaction_id).group_by("transaction_id").having(total != 0))
