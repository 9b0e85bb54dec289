"""What a second or a unit costs: as it was when the run started; every charge can be computed again from the book."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Row, select, text
from sqlalchemy.exc import DBAPIError

from core.clock import now
from core.errors import Conflict, Invalid
from core.money import prices
from core.money.pricing import MICROS_PER_SECOND, NANOS_PER_DOLLAR
from core.resources import Resources
from core.tables import Price
from tests.support.factories import PRICE_NANOS_PER_SECOND
from tests.support.payer import Payer, open_payer


async def second_at(payer: Payer, at: Any = None) -> int:
    async def verb(tx: Any) -> int:
        return await tx.scalar(select(prices.second_of(payer.runnable.hardware_sku, payer.id, at or now())[1]))

    return await payer.do(verb)


async def repriced(payer: Payer, usage: Row) -> int:
    """From the book alone, in another way than it was charged."""
    book = {price.id: price for price in await payer.rows(select(Price))}
    if usage.units is None:
        price = book[usage.price_id]
        assert (price.kind, price.subject) == ("hardware", usage.hardware_sku)
        return usage.micros * price.nanos_per_unit // MICROS_PER_SECOND
    lines: Sequence[dict[str, Any]] = usage.units
    assert all(book[line["price_id"]].metric == line["metric"] for line in lines)
    return sum(int(line["quantity"] * 1000) * book[line["price_id"]].nanos_per_unit // 1000 for line in lines)


async def test_every_usage_record_is_repriced_from_the_book_to_what_it_was_charged(resources: Resources) -> None:
    payer = await open_payer(resources, limit=None)
    ids = [await payer.run(1_234_567)]
    await payer.price(999_999_999)
    ids.append(await payer.run(7_654_321))
    await payer.price(333_333_333, account_id=payer.id)
    ids.append(await payer.run(3))
    await payer.price(12_345_678, metric="image_count")
    await payer.price(777, metric="video_seconds")
    ids.append(await payer.run(1, counted={"image_count": 3, "video_seconds": 1.379}))
    amounts = [(await payer.usage(id)).amount_nanos for id in ids]
    assert amounts == [895_061, 7_654_320_992, 999, 37_038_105]
    assert [await repriced(payer, await payer.usage(id)) for id in ids] == amounts
    await payer.proven()


async def test_a_price_change_in_the_middle_of_a_run_does_not_touch_it(resources: Resources) -> None:
    payer = await open_payer(resources, limit=None)
    started = await payer.start((await payer.create(None)).id)
    waiting = await payer.create(None)
    await payer.price(10 * PRICE_NANOS_PER_SECOND)
    await payer.finish(started, MICROS_PER_SECOND)
    await payer.finish(await payer.start(waiting.id), MICROS_PER_SECOND)
    before, after = [await payer.usage(id) for id in (started.id, waiting.id)]
    assert (before.amount_nanos, after.amount_nanos) == (PRICE_NANOS_PER_SECOND, 10 * PRICE_NANOS_PER_SECOND)
    assert before.price_id != after.price_id


async def test_an_accounts_own_price_holds_for_it_alone_until_it_is_ended(resources: Resources) -> None:
    payer, other = await open_payer(resources), await open_payer(resources)
    await payer.price(100)
    await payer.price(50, account_id=payer.id)
    stranger = Payer(resources, other.id, payer.runnable, payer.holder)
    assert (await second_at(payer), await second_at(stranger)) == (50, 100)
    await payer.price(200)
    assert (await second_at(payer), await second_at(stranger)) == (50, 200)
    await payer.price(None, account_id=payer.id)
    assert (await second_at(payer), await second_at(stranger)) == (200, 200)
    await payer.price(0, account_id=payer.id)
    assert (await second_at(payer), await second_at(stranger)) == (0, 200)


async def test_a_future_price_holds_from_its_moment_on_and_yesterdays_stays_yesterdays(resources: Resources) -> None:
    payer = await open_payer(resources)
    moment = now() + timedelta(days=30)
    await payer.price(100, effective_from=moment)
    assert await second_at(payer, moment - timedelta(microseconds=1)) == PRICE_NANOS_PER_SECOND
    assert await second_at(payer, moment) == 100
    assert await second_at(payer, now() - timedelta(days=365)) == PRICE_NANOS_PER_SECOND


async def test_a_price_may_begin_on_a_leap_day(resources: Resources) -> None:
    payer = await open_payer(resources)
    await payer.price(29, effective_from=datetime(2028, 2, 29, tzinfo=UTC))
    await payer.price(1, effective_from=datetime(2028, 3, 1, tzinfo=UTC))
    days = [datetime(2028, 2, 28, 23, 59, 59, tzinfo=UTC), datetime(2028, 2, 29, tzinfo=UTC)]
    days += [datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)]
    assert [await second_at(payer, day) for day in days] == [PRICE_NANOS_PER_SECOND, 29, 29, 1]


async def test_a_model_priced_by_units_does_not_cost_seconds(resources: Resources) -> None:
    payer = await open_payer(resources, limit=None)
    await payer.price(10**7, metric="image_count")
    made = await payer.run(3600 * MICROS_PER_SECOND, counted={"image_count": 2})
    nothing = await payer.run(3600 * MICROS_PER_SECOND, counted={"image_count": "many", "other": 7})
    assert (await payer.usage(made)).amount_nanos == 2 * 10**7
    assert (await payer.usage(nothing)).amount_nanos == 0
    await payer.price(None, metric="image_count")
    assert (await payer.usage(await payer.run(MICROS_PER_SECOND))).amount_nanos == PRICE_NANOS_PER_SECOND


async def test_a_price_cannot_begin_in_the_past(resources: Resources) -> None:
    payer = await open_payer(resources)
    with pytest.raises(Conflict, match="cannot begin in the past"):
        await payer.price(1, effective_from=now() - timedelta(seconds=1))


async def test_the_book_is_append_only(resources: Resources) -> None:
    payer = await open_payer(resources)
    price = await payer.price(5)
    for change in ("UPDATE prices SET nanos_per_unit = 1 WHERE id = :id", "DELETE FROM prices WHERE id = :id"):
        with pytest.raises(DBAPIError, match="append-only"):
            await payer.do(lambda tx, change=change: tx.execute(text(change).bindparams(id=price.id)))


@pytest.mark.parametrize(
    ("terms", "problem"),
    [
        ({"nanos": -1}, "between 0 and 1000000"),
        ({"nanos": 10**6 * NANOS_PER_DOLLAR + 1}, "between 0 and 1000000"),
        ({"nanos": 10**12 * NANOS_PER_DOLLAR}, "between 0 and 1000000"),
        ({"nanos": 5, "free_units": -1}, "Units are between"),
        ({"nanos": 5, "steps": [{"above": 10, "nanos_per_unit": 6}]}, "none may cost more"),
        ({"nanos": 5, "metric": "second"}, "Name the metric"),
        ({"nanos": 5, "metric": "no name"}, "Name the metric"),
    ],
)
async def test_what_is_no_price_is_refused(resources: Resources, terms: dict[str, Any], problem: str) -> None:
    payer = await open_payer(resources)
    with pytest.raises(Invalid, match=problem):
        await payer.price(terms.pop("nanos"), **terms)
