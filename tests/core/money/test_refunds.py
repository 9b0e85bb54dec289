"""A charge is given back in whole or in part, never more of it than was charged, and by a rule once."""

import asyncio

import pytest
from sqlalchemy import select

from core.errors import Conflict, Invalid, NotFound
from core.lifecycle import FailureCode, PredictionStatus
from core.money import refunds
from core.money.pricing import MICROS_PER_SECOND
from core.resources import Resources
from core.tables import Credit, UsageDay
from tests.support.factories import PRICE_NANOS_PER_SECOND as SECOND
from tests.support.payer import Payer, open_payer

FAILED = {"status": PredictionStatus.FAILED, "failure_code": FailureCode.CONTAINER_LOST}


async def test_a_refund_becomes_credit_and_refers_to_the_charge(resources: Resources) -> None:
    payer = await open_payer(resources, put_in=SECOND)
    id = await payer.run(MICROS_PER_SECOND, hold=SECOND)
    assert await payer.refund(id) == SECOND
    [entry] = await payer.entries("refund")
    assert (entry.amount_nanos, entry.corrects, entry.reason) == (SECOND, f"prediction:{id}", "because")
    [credit] = await payer.rows(select(Credit).where(Credit.account_id == payer.id, Credit.kind == "refund"))
    assert credit.remaining_nanos == SECOND
    assert (await payer.proven()).balance_nanos == SECOND
    [day] = await payer.rows(select(UsageDay).where(UsageDay.account_id == payer.id))
    assert day.amount_nanos == SECOND, "the charge stays as it was"


async def test_a_refund_larger_than_the_charge_is_refused(resources: Resources) -> None:
    payer = await open_payer(resources, limit=None)
    id = await payer.run(MICROS_PER_SECOND)
    with pytest.raises(Conflict, match=r"0\.000725000 are left to be given back"):
        await payer.refund(id, SECOND + 1)
    await payer.refund(id, SECOND - 1)
    with pytest.raises(Conflict, match=r"0\.000000001 are left"):
        await payer.refund(id, 2)
    await payer.refund(id, 1)
    with pytest.raises(Conflict, match=r"0\.000000000 are left"):
        await payer.refund(id)
    assert (await payer.proven()).balance_nanos == 0


async def test_refunds_at_the_same_time_give_back_no_more_than_the_charge(resources: Resources) -> None:
    payer = await open_payer(resources, limit=None)
    id = await payer.run(MICROS_PER_SECOND)
    done = await asyncio.gather(*(payer.refund(id) for _ in range(8)), return_exceptions=True)
    assert sorted(map(type, done), key=str) == sorted([int] + [Conflict] * 7, key=str)
    assert (await payer.proven()).balance_nanos == 0


async def test_what_was_waived_is_not_refunded(resources: Resources) -> None:
    payer = await open_payer(resources, put_in=SECOND)
    id = await payer.run(5 * MICROS_PER_SECOND, hold=SECOND)
    with pytest.raises(Conflict):
        await payer.refund(id, SECOND + 1)
    assert await payer.refund(id) == SECOND
    assert (await payer.proven()).balance_nanos == SECOND


async def test_what_was_free_is_not_refunded(resources: Resources) -> None:
    payer = await open_payer(resources, limit=None)
    await payer.price(SECOND, free_units=10)
    id = await payer.run(MICROS_PER_SECOND)
    with pytest.raises(Conflict):
        await payer.refund(id)
    assert (await payer.proven()).balance_nanos == 0


async def test_a_run_refunded_before_the_volume_made_others_cheaper_is_not_paid_for_twice(
    resources: Resources,
) -> None:
    payer = await open_payer(resources, limit=None)
    await payer.price(SECOND, steps=[{"above": 1, "nanos_per_unit": 0}])
    first = await payer.run(MICROS_PER_SECOND)
    assert await payer.refund(first) == SECOND
    second = await payer.run(MICROS_PER_SECOND)
    with pytest.raises(Conflict):
        await payer.refund(second)
    assert (await payer.proven()).balance_nanos == 0


async def test_nothing_and_less_than_nothing_are_no_refund(resources: Resources) -> None:
    payer = await open_payer(resources, limit=None)
    id = await payer.run(MICROS_PER_SECOND)
    for amount in (0, -1):
        with pytest.raises(Invalid):
            await payer.refund(id, amount)
    usage = await payer.usage(id)
    with pytest.raises(Invalid, match="Say why"):
        await payer.do(refunds.give, usage, reason=" ", actor="somebody")
    with pytest.raises(NotFound):
        await payer.refund("no-prediction")


async def by_rule(payer: Payer) -> None:
    await payer.do(refunds.by_rule, [FailureCode.CONTAINER_LOST.value])


async def test_a_rule_gives_back_what_it_names_once_and_nothing_else(resources: Resources) -> None:
    payer = await open_payer(resources, put_in=10 * SECOND)
    lost = await payer.run(MICROS_PER_SECOND, hold=SECOND, **FAILED)
    await payer.run(MICROS_PER_SECOND, hold=SECOND, status=PredictionStatus.FAILED, failure_code=FailureCode.MODEL)
    await payer.run(MICROS_PER_SECOND, hold=SECOND)
    for _ in range(3):
        await by_rule(payer)
    assert [entry.corrects for entry in await payer.entries("refund")] == [f"prediction:{lost}"]
    assert (await payer.proven()).balance_nanos == 8 * SECOND


async def test_a_rule_leaves_alone_what_was_refunded_by_hand(resources: Resources) -> None:
    payer = await open_payer(resources, limit=None)
    id = await payer.run(MICROS_PER_SECOND, **FAILED)
    await payer.refund(id, 1)
    await by_rule(payer)
    assert len(await payer.entries("refund")) == 1


async def test_runs_that_were_free_keep_no_others_from_being_given_back(
    resources: Resources, clean_database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than one pass looks at."""
    monkeypatch.setattr(refunds, "_AT_ONCE", 2)
    payers = sorted([await open_payer(resources, limit=None) for _ in range(2)], key=lambda payer: payer.id)
    await payers[0].price(SECOND, free_units=5)
    for payer in payers:
        for _ in range(5):
            await payer.run(MICROS_PER_SECOND, **FAILED)
    for _ in range(5):
        await by_rule(payers[0])
    assert [await payer.balance() for payer in payers] == [0, 0]
    assert [len(await payer.entries("refund")) for payer in payers] == [0, 5]


async def test_a_refund_by_rule_and_by_hand_at_once_give_back_one_charge(resources: Resources) -> None:
    payer = await open_payer(resources, limit=None)
    ids = [await payer.run(MICROS_PER_SECOND, **FAILED) for _ in range(5)]
    await asyncio.gather(*(payer.refund(id) for id in ids), by_rule(payer), by_rule(payer), return_exceptions=True)
    assert (await payer.proven()).balance_nanos == 0
