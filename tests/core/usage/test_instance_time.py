"""The time of Instances is counted and charged once, at the price of its moment; what was held for it comes back."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import Row, func, select, update

from core import deployments, retention
from core.catalog import Runnable
from core.database import Transaction
from core.deployments import Configuration
from core.ids import new_id
from core.money import ledger, prices, reconciliation
from core.money.pricing import MICROS_PER_SECOND as SECOND
from core.money.pricing import NANOS_PER_DOLLAR
from core.resources import Resources
from core.tables import LedgerEntry, Version, WalletPosting
from core.usage import instance_time
from core.usage.instance_holds import AHEAD_SECONDS
from core.usage.instance_owners import ALWAYS, NEVER, PRIVATE, Wanted, served, unfunded
from core.usage.instance_time import Counters
from tests.core.instances_at_work import Work, add_paid_instance, begin_work, instance_row, make_private, owner_of
from tests.support.factories import PRICE_NANOS_PER_SECOND as PRICE
from tests.support.factories import add_account, add_node, add_runnable

# Closing, holding and releasing look at all there are.
pytestmark = pytest.mark.usefixtures("clean_database")

MINUTE = AHEAD_SECONDS * PRICE


@pytest.fixture
async def work(resources: Resources) -> Work:
    """Its owner may owe without limit."""
    return await begin_work(resources)


def seconds(rows: list) -> dict[str, float]:
    return {row.phase: row.micros / SECOND for row in rows}


# --- reporting --------------------------------------------------------------------------------------------------------


async def test_a_report_adds_what_is_new_and_the_same_one_again_adds_nothing(work: Work) -> None:
    await work.report(10, 0, 0)
    await work.report(10, 5, 2.5)
    await work.report(10, 5, 2.5)
    assert seconds(await work.open_times()) == {"setup": 10, "idle": 5, "active": 2.5}
    row = await work.instance()
    assert (row.setup_micros, row.idle_micros, row.active_micros) == (10 * SECOND, 5 * SECOND, 2_500_000)


async def test_a_report_that_comes_late_takes_nothing_back(work: Work) -> None:
    await work.report(10, 5, 3)
    await work.report(10, 2, 4)
    assert seconds(await work.open_times()) == {"setup": 10, "idle": 5, "active": 4}


async def test_reports_at_the_same_time_count_once(work: Work) -> None:
    for count in range(1, 6):
        await asyncio.gather(*(work.report(1, count, count * 2) for _ in range(4)))
    assert seconds(await work.open_times()) == {"setup": 1, "idle": 5, "active": 10}


async def test_what_has_ended_is_not_added_to(work: Work) -> None:
    await work.report(1, 0, 0)
    await work.end()
    await work.report(1, 100, 0)
    assert seconds(await work.open_times()) == {"setup": 1}
    assert (await work.instance()).idle_micros == 0


async def test_one_statement_reports_all_instances_of_a_node(work: Work) -> None:
    async with work.resources.database.transaction() as tx:
        other = await add_paid_instance(tx, work.node, work.runnable)
    both = {work.instance_id: Counters(1, 2, 3), other: Counters(4, 5, 6), "unknown": Counters(7, 8, 9)}
    async with work.resources.database.autocommit() as tx:
        await instance_time.report(tx, both)
        rows = [await instance_row(tx, id) for id in (work.instance_id, other)]
        await instance_time.report(tx, {})
    assert [(row.setup_micros, row.idle_micros, row.active_micros) for row in rows] == [(1, 2, 3), (4, 5, 6)]


async def test_a_price_that_changes_splits_the_time(work: Work) -> None:
    await work.report(0, 10, 0)
    async with work.resources.database.transaction() as tx:
        sku = work.runnable.hardware_sku
        new = await prices.put(tx, kind=prices.HARDWARE, subject=sku, nanos_per_unit=2 * PRICE, created_by="test")
    await work.report(0, 13, 0)
    await work.end()
    assert await work.close() == 2
    charged = {row.price_id: (row.micros, row.amount_nanos) for row in await work.records()}
    assert charged == {f"hardware:{sku}": (10 * SECOND, 10 * PRICE), new.id: (3 * SECOND, 6 * PRICE)}


# --- closing ----------------------------------------------------------------------------------------------------------


async def test_an_hour_is_closed_once_it_is_over_and_the_next_one_goes_on(work: Work) -> None:
    await work.report(1, 2, 3)
    assert await work.close() == 0
    await work.age(hours=2)
    await work.report(1, 5, 3)
    assert await work.close() == 3
    assert seconds(await work.open_times()) == {"idle": 3}
    records = {row.phase: row for row in await work.records()}
    assert {phase: row.micros for phase, row in records.items()} == {
        "setup": SECOND,
        "idle": 2 * SECOND,
        "active": 3 * SECOND,
    }
    idle = records["idle"]
    assert (idle.amount_nanos, idle.price_nanos_per_second) == (2 * PRICE, PRICE)
    assert (idle.account_id, idle.model, idle.version_id) == (
        work.owner_id,
        work.runnable.model,
        work.runnable.version_id,
    )
    assert idle.day == idle.ended_at.date()
    assert timedelta(0) <= idle.ended_at - idle.started_at <= timedelta(hours=1)


async def test_a_clock_that_goes_back_into_a_closed_hour_charges_what_is_new_and_nothing_twice(work: Work) -> None:
    await work.report(0, 2, 0)
    await work.age(hours=2)
    await work.close()
    await work.report(0, 5, 0)
    await work.age(hours=2)
    assert await work.close() == 1
    first, second = await work.records()
    assert (first.day, {first.micros, second.micros}) == (second.day, {2 * SECOND, 3 * SECOND})


async def test_closing_at_the_same_time_charges_once(work: Work) -> None:
    await work.report(1, 2, 3)
    await work.end()
    counts = await asyncio.gather(*(work.close() for _ in range(4)))
    assert sum(counts) == 3
    wallet = await work.settle()
    assert wallet.balance_nanos == -6 * PRICE
    async with work.resources.database.autocommit() as tx:
        assert await ledger.balance(tx, ledger.account(work.owner_id)) == -6 * PRICE


async def test_where_callers_pay_for_their_runs_the_time_is_on_record_and_costs_nothing(resources: Resources) -> None:
    work = await begin_work(resources, policy=PRIVATE, credit=NANOS_PER_DOLLAR)
    await work.report(1, 2, 3)
    assert await work.hold() == []
    await work.end()
    await work.close()
    assert {row.phase: (row.micros, row.amount_nanos, row.price_id) for row in await work.records()} == {
        "setup": (SECOND, 0, None),
        "idle": (2 * SECOND, 0, None),
        "active": (3 * SECOND, 0, None),
    }
    assert (await work.settle()).balance_nanos == NANOS_PER_DOLLAR


# --- holds ------------------------------------------------------------------------------------------------------------


async def test_a_minute_more_than_what_is_counted_is_held_and_given_back_at_the_end(resources: Resources) -> None:
    work = await begin_work(resources, credit=NANOS_PER_DOLLAR)
    assert await work.hold() == [None]
    assert (await work.instance()).held_nanos == MINUTE
    await work.report(0, 50, 0)
    assert await work.hold() == [None]
    assert await work.hold() == []
    assert (await work.instance()).held_nanos == MINUTE + 50 * PRICE
    await work.age(hours=2)
    await work.close()
    assert (await work.instance()).held_nanos == MINUTE
    assert await work.release() == 0
    await work.end()
    assert sum(await asyncio.gather(*(work.release() for _ in range(4)))) == 1
    wallet = await work.settle()
    assert (wallet.held_nanos, wallet.balance_nanos) == (0, NANOS_PER_DOLLAR - 50 * PRICE)


async def test_what_is_left_is_held_until_the_last_of_it_and_the_rest_is_waived(resources: Resources) -> None:
    work = await begin_work(resources, credit=100 * PRICE)
    await work.hold()
    await work.report(0, 90, 0)
    # A hundred is all there is, and ten seconds are too few to go on.
    assert await work.hold() == ["stop"]
    await work.report(0, 130, 0)
    await work.end()
    wallet = await work.settle()
    assert (wallet.balance_nanos, wallet.held_nanos) == (0, 0)
    [record] = await work.records()
    assert record.amount_nanos == 130 * PRICE
    async with resources.database.autocommit() as tx:
        own = select(LedgerEntry.kind, LedgerEntry.amount_nanos).where(LedgerEntry.usage_record_id == record.id)
        rows = await tx.all(own.where(LedgerEntry.ledger_account == ledger.account(work.owner_id)))
    assert {row.kind: row.amount_nanos for row in rows} == {"usage": -130 * PRICE, "waiver": 30 * PRICE}


async def test_where_what_runs_may_finish_the_rest_is_owed(resources: Resources) -> None:
    work = await begin_work(resources, credit=10 * PRICE, when_empty="finish")
    await work.report(0, 90, 0)
    assert await work.hold() == ["finish"]
    await work.end()
    wallet = await work.settle()
    assert (wallet.balance_nanos, wallet.held_nanos) == (-80 * PRICE, 0)


async def test_an_instance_that_ended_before_it_was_counted_gives_back_what_was_held(resources: Resources) -> None:
    work = await begin_work(resources, credit=NANOS_PER_DOLLAR)
    await work.hold()
    await work.end()
    assert await work.hold() == []
    wallet = await work.settle()
    assert (wallet.held_nanos, wallet.balance_nanos) == (0, NANOS_PER_DOLLAR)


async def test_an_owner_who_may_owe_without_limit_pays_all_and_has_nothing_held(work: Work) -> None:
    await work.report(0, 1000, 0)
    assert await work.hold() == []
    await work.end()
    wallet = await work.settle()
    assert (wallet.balance_nanos, wallet.held_nanos) == (-1000 * PRICE, 0)


async def test_an_instance_is_deleted_only_when_its_time_is_charged_and_nothing_is_held(resources: Resources) -> None:
    work = await begin_work(resources, credit=NANOS_PER_DOLLAR)
    await work.hold()
    await work.report(1, 0, 0)
    await work.end()

    async def delete() -> int:
        async with resources.database.transaction() as tx:
            return await retention.delete_instances(tx, work.runnable.version_id, limit=10)

    async with resources.database.transaction() as tx:
        its_version = update(Version).where(Version.id == work.runnable.version_id)
        await tx.execute(its_version.values(deleted_at=func.now()))
    assert await delete() == 0
    await work.close()
    assert await delete() == 0
    await work.release()
    assert await delete() == 1
    assert len(await work.records()) == 1


async def test_every_record_has_its_posting(work: Work) -> None:
    """Or roll-ups would not know of it."""
    await work.report(1, 2, 0)
    await work.end()
    await work.close()
    ids = {row.id for row in await work.records()}
    async with work.resources.database.autocommit() as tx:
        rows = await tx.all(select(WalletPosting).where(WalletPosting.account_id == work.owner_id))
    assert {row.usage_record_id for row in rows} == ids


async def test_the_books_agree_while_time_is_open_and_after_all_is_charged(resources: Resources) -> None:
    work = await begin_work(resources, credit=100 * PRICE)
    await work.report(5, 60, 7)
    await work.hold()
    await books_agree(work)
    await work.report(5, 160, 7)
    await work.end()
    await work.close()
    await books_agree(work)
    await work.settle()
    await books_agree(work)


async def books_agree(work: Work) -> None:
    async with work.resources.database.transaction() as tx:
        assert await reconciliation.differences(tx) == []


# --- who pays ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "private", "deployed", "pays"),
    [
        (PRIVATE, False, False, False),
        (PRIVATE, True, False, True),
        (PRIVATE, False, True, True),
        (ALWAYS, False, False, True),
        (NEVER, True, False, False),
        (NEVER, False, True, False),
    ],
)
async def test_who_pays_is_what_the_operator_says(
    resources: Resources, policy: str, private: bool, deployed: bool, pays: bool
) -> None:
    async with resources.database.transaction() as tx:
        runnable = await add_runnable(tx)
        owner_id = await owner_of(tx, runnable)
        if private:
            await make_private(tx, runnable)
        deployment = await deploy(tx, runnable) if deployed else None
        row = await served(tx, runnable.version_id, deployment and deployment.id, policy)
        again = await instance_row(tx, await add_paid_instance(tx, await add_node(tx), runnable, policy))
    assert (row.model, row.bills_time) == (runnable.model, pays)
    assert row.deployment == (deployment and f"{deployment.owner}/{deployment.name}")
    assert row.owner_id == (deployment.owner_id if deployment else owner_id)
    if not deployed:
        assert (again.model, again.owner_id, again.bills_time) == (runnable.model, owner_id, pays)


async def deploy(tx: Transaction, runnable: Runnable) -> Row:
    """By somebody else than its Model's owner."""
    configuration = Configuration(runnable.model, runnable.version_id, runnable.hardware_sku, 0, 1)
    return await deployments.create(tx, new_id(), await add_account(tx), "deployed", configuration)


async def test_nothing_new_starts_for_who_has_less_than_the_first_minute(resources: Resources) -> None:
    poor = await begin_work(resources, credit=MINUTE - 1)
    rich = await begin_work(resources, credit=MINUTE)
    endless = await begin_work(resources)
    wanted = [
        Wanted(w.runnable.target, w.runnable.version_id, w.runnable.hardware_sku, None) for w in (poor, rich, endless)
    ]
    async with resources.database.autocommit() as tx:
        assert await unfunded(tx, wanted, ALWAYS) == {poor.runnable.target}
        assert await unfunded(tx, wanted, PRIVATE) == set()
        assert await unfunded(tx, wanted, NEVER) == set()
        assert await unfunded(tx, [], ALWAYS) == set()
