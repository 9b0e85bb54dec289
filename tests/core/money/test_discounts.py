"""Free units and cheaper steps: what a month comes to in the end, whoever counted it and in which pieces."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from core.money.pricing import MICROS_PER_SECOND, discount_nanos, price_of_volume
from core.resources import Resources
from core.tables import Volume
from tests.support.payer import Payer, open_payer

terms = st.fixed_dictionaries(
    {
        "nanos_per_unit": st.just(100),
        "free_units": st.integers(0, 30),
        "steps": st.lists(
            st.fixed_dictionaries({"above": st.integers(0, 60), "nanos_per_unit": st.integers(0, 100)}), max_size=3
        ),
    }
)


@given(terms, st.lists(st.integers(0, 40), max_size=8))
def test_a_month_in_pieces_costs_what_it_costs_at_once(price: dict, pieces: list[int]) -> None:
    paid = before = 0
    for units in pieces:
        paid += units * 100 - discount_nanos(before, units, units * 100, price, 1)
        before += units
    assert paid == price_of_volume(before, 100, price["free_units"], price["steps"], 1)


@given(terms, st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 10**6))
def test_a_discount_is_never_more_than_the_charge(price: dict, before: int, more: int, charged: int) -> None:
    assert 0 <= discount_nanos(before, more, charged, price, 1) <= charged


STEPS = [{"above": 20, "nanos_per_unit": 10**6}, {"above": 10, "nanos_per_unit": 5 * 10**6}]


async def open_volume(resources: Resources) -> Payer:
    payer = await open_payer(resources, limit=None)
    await payer.price(10**7, metric="image_count", free_units=5, steps=STEPS)
    return payer


@pytest.mark.parametrize(
    ("images", "cost"),
    [(0, 0), (4, 0), (5, 0), (6, 1), (10, 5), (11, 5.5), (20, 10), (21, 10.1), (30, 11)],
)
async def test_units_are_priced_by_the_step_they_fall_in(resources: Resources, images: int, cost: float) -> None:
    payer = await open_volume(resources)
    await payer.run(1, counted={"image_count": images})
    assert await payer.balance() == -int(cost * 10**7)
    await payer.proven()


async def test_runs_one_by_one_or_at_once_come_to_the_same(resources: Resources) -> None:
    payer = await open_volume(resources)
    balances = []
    for _ in range(7):
        await payer.run(1, counted={"image_count": 4})
        balances.append(-(await payer.balance()) // 10**6)
    assert balances == [0, 30, 60, 80, 100, 104, 108]
    together = await open_volume(resources)
    rows = [await together.start((await together.create(None)).id) for _ in range(7)]
    await asyncio.gather(*(together.finish(row, 1, {"image_count": 4}) for row in rows))
    await together.fold()
    assert await together.balance() == await payer.balance()
    [volume] = await together.rows(select(Volume).where(Volume.account_id == together.id))
    assert (volume.units, volume.list_nanos, volume.discount_nanos) == (28_000, 280 * 10**6, 172 * 10**6)
    await together.proven()


async def test_free_seconds_are_counted_to_the_microsecond(resources: Resources) -> None:
    payer = await open_payer(resources, limit=None)
    await payer.price(1_000_000, free_units=3)
    for _ in range(3):
        await payer.run(MICROS_PER_SECOND * 3 // 2)
    assert await payer.balance() == -1_500_000
    await payer.proven()


async def test_free_units_free_credit_for_the_next_run(resources: Resources) -> None:
    payer = await open_payer(resources, put_in=10**7)
    await payer.price(10**7, metric="image_count", free_units=2)
    for _ in range(3):
        await payer.run(1, hold=10**7, counted={"image_count": 1})
    assert (await payer.proven()).balance_nanos == 0


async def test_each_month_and_each_account_counts_for_itself(resources: Resources) -> None:
    payer = await open_volume(resources)
    other = await open_payer(resources, limit=None)
    stranger = Payer(resources, other.id, payer.runnable, payer.holder)
    for one in (payer, stranger):
        await one.run(1, counted={"image_count": 5})
        assert await one.balance() == 0
