"""Money put in, piece by piece: which piece is used first, which expires, and that none is lost between."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Row, select, update
from sqlalchemy.exc import IntegrityError

from core.clock import now
from core.database import seconds_from_now
from core.errors import Invalid
from core.money import credits
from core.money.pricing import MICROS_PER_SECOND, NANOS_PER_DOLLAR
from core.resources import Resources
from core.tables import Credit, LedgerEntry
from tests.support.factories import PRICE_NANOS_PER_SECOND as SECOND
from tests.support.payer import BY_HAND, Payer, open_payer


async def left(payer: Payer, *pieces: Row) -> list[int]:
    rows = {row.id: row.remaining_nanos for row in await payer.rows(select(Credit))}
    return [rows[piece.id] for piece in pieces]


async def spend(payer: Payer, seconds: int) -> None:
    await payer.run(seconds * MICROS_PER_SECOND, hold=seconds * SECOND)
    await payer.proven()


async def expire(payer: Payer, *pieces: Row) -> int:
    """An hour later for these."""

    async def verb(tx: Any) -> int:
        these = update(Credit).where(Credit.id.in_([piece.id for piece in pieces]))
        await tx.execute(these.values(expires_at=seconds_from_now(-1)))
        return await credits.expire(tx)

    return await payer.do(verb)


async def test_credits_burn_by_priority_then_expiry_then_age(resources: Resources) -> None:
    payer = await open_payer(resources)
    soon, late = (now() + timedelta(days=days) for days in (1, 2))
    old = await payer.put_in(SECOND)
    young = await payer.put_in(SECOND)
    expires_late = await payer.put_in(SECOND, expires_at=late)
    expires_soon = await payer.put_in(SECOND, expires_at=soon)
    last = await payer.put_in(SECOND, priority=101, expires_at=soon)
    given = await payer.put_in(SECOND, kind=credits.PROMOTIONAL)
    in_line = [given, expires_soon, expires_late, old, young, last]
    for burnt in range(1, len(in_line) + 1):
        await spend(payer, 1)
        assert await left(payer, *in_line) == [0] * burnt + [SECOND] * (len(in_line) - burnt)


async def test_one_run_may_use_up_several_and_part_of_another(resources: Resources) -> None:
    payer = await open_payer(resources)
    pieces = [await payer.put_in(SECOND) for _ in range(3)]
    await payer.run(MICROS_PER_SECOND * 5 // 2, hold=3 * SECOND)
    assert await left(payer, *pieces) == [0, 0, SECOND // 2]
    await payer.proven()


async def test_promotional_credit_stays_apart_from_what_was_paid(resources: Resources) -> None:
    payer = await open_payer(resources)
    paid, given = await payer.put_in(700), await payer.put_in(300, kind=credits.PROMOTIONAL)
    entries = await payer.rows(select(LedgerEntry).where(LedgerEntry.transaction_id.in_([paid.id, given.id])))
    assert {(e.kind, e.ledger_account, e.amount_nanos) for e in entries} == {
        ("top_up", "cash:by_hand", -700),
        ("top_up", f"account:{payer.id}", 700),
        ("promotion", "expense:promotions", -300),
        ("promotion", f"account:{payer.id}", 300),
    }


async def test_credit_pays_what_is_owed_at_once(resources: Resources) -> None:
    payer = await open_payer(resources, limit=None)
    await payer.run(3 * MICROS_PER_SECOND)
    piece = await payer.put_in(5 * SECOND)
    assert await left(payer, piece) == [2 * SECOND]
    assert (await payer.proven()).balance_nanos == 2 * SECOND


async def test_the_same_credit_twice_is_refused_by_the_database(resources: Resources) -> None:
    payer = await open_payer(resources)
    await payer.put_in(1000, id=f"event:{payer.id}")
    for _ in range(10):
        with pytest.raises(IntegrityError):
            await payer.put_in(1000, id=f"event:{payer.id}")
    assert (await payer.proven()).balance_nanos == 1000


async def test_what_has_expired_is_gone_and_the_rest_stays(resources: Resources) -> None:
    payer = await open_payer(resources, put_in=1000)
    piece = await payer.put_in(3 * SECOND, expires_at=now() + timedelta(hours=1))
    await spend(payer, 1)
    assert await expire(payer, piece) == 1
    assert (await payer.proven()).balance_nanos == 1000
    [entry] = await payer.entries("expiry")
    assert (entry.amount_nanos, entry.corrects) == (-2 * SECOND, piece.id)
    assert await expire(payer, piece) == 0


async def test_credit_that_is_held_expires_once_the_run_has_ended(resources: Resources) -> None:
    payer = await open_payer(resources)
    piece = await payer.put_in(3 * SECOND, expires_at=now() + timedelta(hours=1))
    row = await payer.start((await payer.create(2 * SECOND)).id)
    assert await expire(payer, piece) == 1
    assert (await payer.proven()).balance_nanos == 2 * SECOND
    await payer.finish(row, MICROS_PER_SECOND)
    await payer.fold()
    assert await expire(payer, piece) == 1
    assert (await payer.proven()).balance_nanos == 0
    assert [entry.amount_nanos for entry in await payer.entries("expiry")] == [-SECOND, -SECOND]


async def test_credit_that_cannot_expire_yet_keeps_nobody_elses(resources: Resources, clean_database: None) -> None:
    """More Accounts than one pass looks at have all of theirs held."""
    payer = await open_payer(resources)
    limit = 3
    stuck = [await open_payer(resources) for _ in range(limit)]
    for other in stuck:
        piece = await other.put_in(1000, expires_at=now() + timedelta(hours=1))
        await other.create(1000)
        await expire(other, piece)
    piece = await payer.put_in(1000, expires_at=now() + timedelta(hours=1))

    async def verb(tx: Any) -> int:
        due = update(Credit).where(Credit.id == piece.id).values(expires_at=seconds_from_now(-1))
        await tx.execute(due)
        return await credits.expire(tx, limit)

    assert await payer.do(verb) == 1
    assert (await payer.proven()).balance_nanos == 0


async def test_an_adjustment_takes_from_the_credit_that_would_be_used_next(resources: Resources) -> None:
    payer = await open_payer(resources)
    paid, given = await payer.put_in(700), await payer.put_in(300, kind=credits.PROMOTIONAL)
    await payer.do(credits.adjust, payer.id, amount_nanos=400, **BY_HAND)
    assert await left(payer, given, paid) == [0, 600]
    await payer.proven()


async def test_a_payment_that_went_back_is_owed(resources: Resources) -> None:
    payer = await open_payer(resources, put_in=1000)
    await payer.do(credits.adjust, payer.id, amount_nanos=1500, at_any_rate=True, **BY_HAND)
    assert (await payer.proven()).balance_nanos == -500


async def test_credit_needs_a_reason_and_a_future(resources: Resources) -> None:
    payer = await open_payer(resources)
    with pytest.raises(Invalid, match="what the credit is for"):
        await payer.do(credits.add, payer.id, kind=credits.PAID, amount_nanos=1, reason=" ", actor="somebody")
    with pytest.raises(Invalid, match="expired already"):
        await payer.put_in(NANOS_PER_DOLLAR, expires_at=now() - timedelta(seconds=1))
