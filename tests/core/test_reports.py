"""What pages and downloads ask about money is what the rows say."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, select

from core.clock import now
from core.errors import NotFound
from core.ids import new_id
from core.money import credits
from core.reports import balances, books, capacity, movements, records, usage
from core.reports.filters import Filter
from core.resources import Resources
from core.tables import UsageRecord
from tests.support.billing_scene import COSTS, H100, L40S, PRICES, Scene, furnish
from tests.support.factories import add_account

DAYS = 2


@pytest.fixture(scope="module")
async def story(resources: Resources) -> Scene:
    return await furnish(resources, f"-{now():%f}", DAYS)


@pytest.fixture
def yesterday(story: Scene) -> Filter:
    day = now().date() - timedelta(days=1)
    return Filter(day, day, account=story.vision.id)


async def of_records(resources: Resources, filter: Filter, *conditions: Any) -> tuple[int, int, int]:
    """Amount, time and runs, from the records themselves."""
    is_run = UsageRecord.cause_kind == "prediction"
    statement = select(func.sum(UsageRecord.amount_nanos), func.sum(UsageRecord.micros), func.count().filter(is_run))
    chosen = (UsageRecord.day.between(filter.first, filter.last), UsageRecord.account_id == filter.account)
    async with resources.database.autocommit() as tx:
        amount, micros, runs = await tx.one(statement.where(*chosen, *conditions))
    return int(amount or 0), int(micros or 0), runs


@pytest.mark.parametrize("dimension", [name for name in usage.DIMENSIONS if name != usage.TAG])
async def test_told_apart_by_anything_it_comes_to_the_same(
    resources: Resources, yesterday: Filter, dimension: str
) -> None:
    async with resources.database.autocommit() as tx:
        rows = await usage.by(tx, yesterday, dimension)
        total = await usage.totals(tx, yesterday)
    expected = await of_records(resources, yesterday)
    assert (sum(r.amount_nanos for r in rows), sum(r.run_micros + r.instance_micros for r in rows)) == expected[:2]
    assert sum(row.runs for row in rows) == expected[2] == total.runs
    assert total.amount_nanos == expected[0]


async def test_sums_by_tag_are_those_of_tagged_runs(resources: Resources, yesterday: Filter) -> None:
    async with resources.database.autocommit() as tx:
        rows = await usage.by(tx, yesterday, usage.TAG)
    for row in rows:
        key, _, value = row.name.partition("=")
        found = await of_records(resources, yesterday, UsageRecord.tags[key].astext == value)
        assert (row.amount_nanos, row.run_micros, row.runs) == found


async def test_hours_add_up_to_the_day(resources: Resources, story: Scene, yesterday: Filter) -> None:
    model = story.models["segment"]
    async with resources.database.autocommit() as tx:
        rows = await usage.over_time(tx, yesterday, "model", [model], hourly=True)
        days = await usage.over_time(tx, yesterday, "model", [model])
    for name in (model, None):
        of_hours = sum(row.amount_nanos for row in rows if row.name == name)
        assert of_hours == sum(row.amount_nanos for row in days if row.name == name)
    assert all(yesterday.since <= row.moment < yesterday.until for row in rows)


async def test_the_same_span_of_yesterday_counts_its_last_hour_by_the_share_that_is_over(
    resources: Resources, story: Scene
) -> None:
    midnight = datetime.combine(now().date() - timedelta(days=1), datetime.min.time(), UTC)
    async with resources.database.autocommit() as tx:
        sums = [
            await usage.charged_between(tx, midnight, midnight + timedelta(hours=20, minutes=minutes), story.vision.id)
            for minutes in (0, 30, 60)
        ]
    before, half, whole = sums
    assert before < half < whole
    assert abs((whole - before) - 2 * (half - before)) <= 1


async def test_pages_of_records_have_each_once_newest_first(
    resources: Resources, story: Scene, yesterday: Filter
) -> None:
    everything = Filter(yesterday.first, now().date(), model=story.models["upscale"])
    seen: list[Any] = []
    async with resources.database.autocommit() as tx:
        before = None
        while batch := await records.page(tx, everything, before, limit=3):
            seen += batch
            before = (batch[-1].ended_at, batch[-1].id)
        expected = await records.page(tx, everything, limit=1000)
    assert [row.id for row in seen] == [row.id for row in expected]
    assert len({row.id for row in seen}) == len(seen) > 6
    assert [row.ended_at for row in seen] == sorted((row.ended_at for row in seen), reverse=True)


async def test_pages_of_all_accounts_are_in_the_same_order(resources: Resources, story: Scene) -> None:
    today = now().date()
    everybody = Filter(today - timedelta(days=DAYS), today, hardware=L40S)
    async with resources.database.autocommit() as tx:
        whole = await records.page(tx, everybody, limit=40)
        first = await records.page(tx, everybody, limit=20)
        rest = await records.page(tx, everybody, (first[-1].ended_at, first[-1].id), limit=20)
    assert [row.id for row in first + rest] == [row.id for row in whole]


@pytest.mark.parametrize(
    "choice", [{"phase": "idle"}, {"deployment": ""}, {"tag": ("project", "archive")}, {"outcome": "failed"}]
)
async def test_rows_behind_a_sum_are_those_that_were_summed(
    resources: Resources, yesterday: Filter, choice: dict[str, Any]
) -> None:
    filter = Filter(yesterday.first, yesterday.last, account=yesterday.account, **choice)
    async with resources.database.autocommit() as tx:
        rows = await records.page(tx, filter, limit=1000)
        total = await usage.totals(tx, filter)
    assert sum(row.amount_nanos for row in rows) == total.amount_nanos


async def test_a_run_explains_itself_to_its_account_alone(resources: Resources, story: Scene) -> None:
    id = f"prediction:{story.run_id}"
    async with resources.database.autocommit() as tx:
        found = await records.explain(tx, id, story.vision.id)
        assert await records.find(tx, story.run_id, story.vision.id) == id
        with pytest.raises(NotFound):
            await records.explain(tx, id, story.teams[1].id)
        with pytest.raises(NotFound):
            await records.find(tx, story.run_id, story.teams[1].id)
    record = found.record
    assert record.amount_nanos == record.micros * PRICES[L40S] // 1_000_000 == found.paid_nanos
    assert found.price is not None
    assert found.price.nanos_per_unit == record.price_nanos_per_second
    assert found.prediction is not None
    assert found.prediction.held_nanos == 20_000_000
    assert found.token is not None
    assert found.token.name == "production"
    assert sum(entry.amount_nanos for entry in found.entries) == 0 != len(found.entries)


async def test_idling_is_told_at_list_price_and_at_cost(resources: Resources, story: Scene, yesterday: Filter) -> None:
    async with resources.database.autocommit() as tx:
        rows = {row.model: row for row in await capacity.idling(tx, yesterday)}
    billed, free = rows[story.models["segment"]], rows[story.models["upscale"]]
    for row in (billed, free):
        assert row.list_nanos == row.idle_micros * PRICES[L40S] // 1_000_000
        assert row.cost_nanos == row.idle_micros * COSTS[L40S] // (3600 * 1_000_000)
    assert (billed.charged_nanos, billed.uncharged_nanos) == (billed.list_nanos, 0)
    assert (free.charged_nanos, free.uncharged_nanos) == (0, free.list_nanos)


async def test_machines_cost_while_they_are_there_used_or_not(resources: Resources, story: Scene) -> None:
    day = now().date() - timedelta(days=1)
    async with resources.database.autocommit() as tx:
        overall = await capacity.overall(tx, Filter(day, day))
        idling = await capacity.idling(tx, Filter(day, day), limit=None)
    found = {each.sku: each for each in overall.machines}
    assert overall.idle[0] == sum(row.idle_micros for row in idling)
    assert overall.idle[2:] == capacity.idle_cost(idling)[2:]
    for sku in (L40S, H100):
        machine = found[sku]
        hours = Decimal(machine.available_micros) / (3600 * 1_000_000)
        assert machine.available_cost_nanos == int(hours * COSTS[sku])
        assert machine.margin_nanos == machine.amount_nanos - machine.available_cost_nanos
        assert 0 < machine.active_micros < machine.occupied_micros


async def test_movements_are_those_of_one_account_with_actor_and_reason(resources: Resources, story: Scene) -> None:
    today = now().date()
    shop = story.teams[2]
    filter = Filter(today, today, account=shop.id)
    async with resources.database.autocommit() as tx:
        rows = await movements.page(tx, filter)
        sums = await movements.by_kind(tx, filter)
        [slip] = [row for row in rows if row.kind == "adjustment"]
        found = await movements.one(tx, slip.transaction_id, shop.id)
        with pytest.raises(NotFound):
            await movements.one(tx, slip.transaction_id, story.vision.id)
    assert {row.username for row in rows} == {shop.username}
    assert (slip.actor, slip.reason, slip.amount_nanos) == ("admin", "Entered twice", -2_000_000_000)
    assert sums["adjustment"] == (1, -2_000_000_000)
    assert sum(entry.amount_nanos for entry in found.entries) == 0


async def test_balances_are_found_by_name_and_the_low_ones_apart(resources: Resources, story: Scene) -> None:
    async with resources.database.autocommit() as tx:
        [row] = await balances.page(tx, story.vision.username)
        low = await balances.page(tx, only_low=True, limit=None)
        totals = await balances.totals(tx)
    assert row.spendable_nanos == row.balance_nanos - row.held_nanos == row.ongoing_nanos
    assert row.id not in {each.id for each in low}
    assert totals.low == len(low)


async def test_the_quick_look_agrees(resources: Resources, story: Scene) -> None:
    async with resources.database.autocommit() as tx:
        quick = await books.quick(tx, now())
    assert quick.runs_today >= 1
    assert quick.charged_today_nanos > 0


async def test_sums_may_be_larger_than_what_any_wallet_holds(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        for account in [await add_account(tx) for _ in range(10)]:
            await credits.add(
                tx, account.id, id=new_id(), kind="paid", amount_nanos=10**18, reason="A billion", actor="admin"
            )
    async with resources.database.autocommit() as tx:
        assert (await balances.totals(tx)).paid_in_nanos >= 10 * 10**18 > 2**63
        assert (await books.quick(tx, now())).above_zero_nanos >= 10 * 10**18
