"""What may be spent: never more than there is, whoever asks at the same time; nothing stays set aside for nothing."""

import asyncio
from collections import Counter
from typing import Any

import pytest
import sqlalchemy as sa

from core import predictions, unstarted
from core.errors import Conflict, Invalid, NotFound, PaymentRequired, StaleWrite
from core.ids import new_id
from core.lifecycle import FailureCode
from core.money import credits, folding, holds, wallets
from core.money.pricing import MICROS_PER_SECOND, MOST_CHARGE_NANOS, NANOS_PER_DOLLAR
from core.money.reconciliation import differences
from core.resources import Resources
from core.tables import Alert, Prediction, UsageRecord
from tests.support.factories import PRICE_NANOS_PER_SECOND
from tests.support.payer import BY_HAND, open_payer

DOLLAR = NANOS_PER_DOLLAR


async def gathered(*coroutines: Any) -> Counter[str]:
    """How many ended how."""
    results = await asyncio.gather(*coroutines, return_exceptions=True)
    return Counter(type(r).__name__ if isinstance(r, Exception) else "done" for r in results)


async def test_a_thousand_concurrent_creates_against_one_dollar_hold_exactly_what_there_is(
    resources: Resources,
) -> None:
    payer = await open_payer(resources, put_in=DOLLAR)
    hold = 7_000_000
    assert await gathered(*(payer.create(hold) for _ in range(1000))) == {
        "done": DOLLAR // hold,
        "PaymentRequired": 1000 - DOLLAR // hold,
    }
    books = await payer.proven()
    assert (books.balance_nanos, books.held_nanos) == (DOLLAR, DOLLAR // hold * hold)
    assert await payer.do(unstarted.refuse, payer.runnable.target, FailureCode.SETUP, "It cannot run.") == 142
    await payer.fold()
    books = await payer.proven()
    assert (books.balance_nanos, books.held_nanos) == (DOLLAR, 0)


async def test_a_hundred_creates_that_run_end_and_are_added_up_meanwhile_never_overspend(resources: Resources) -> None:
    payer = await open_payer(resources, put_in=10 * PRICE_NANOS_PER_SECOND)

    async def one() -> None:
        row = await payer.create(PRICE_NANOS_PER_SECOND)
        await payer.finish(await payer.start(row.id), MICROS_PER_SECOND)
        assert (await payer.wallet()).balance_nanos >= 0

    done = await gathered(*(one() for _ in range(100)), *(payer.fold() for _ in range(10)))
    assert done.keys() <= {"done", "PaymentRequired"}
    await payer.fold()
    books = await payer.proven()
    assert books.held_nanos == 0
    assert books.balance_nanos == (20 - done["done"]) * PRICE_NANOS_PER_SECOND >= 0


async def test_the_same_id_created_twice_at_once_holds_once(resources: Resources) -> None:
    payer = await open_payer(resources, put_in=DOLLAR)
    for _ in range(20):
        id = new_id()
        one, other = await asyncio.gather(payer.create(1000, id=id), payer.create(1000, id=id))
        assert one.id == other.id == id
    assert (await payer.proven()).held_nanos == 20 * 1000


async def test_a_refused_create_leaves_no_row_and_no_hold(resources: Resources) -> None:
    payer = await open_payer(resources, put_in=999)
    with pytest.raises(PaymentRequired):
        await payer.create(1000)
    assert not await payer.rows(sa.select(Prediction.id).where(Prediction.account_id == payer.id))
    assert (await payer.proven()).held_nanos == 0


async def test_credit_is_spendable_to_the_last_nanodollar_and_not_beyond(resources: Resources) -> None:
    payer = await open_payer(resources, limit=5000, put_in=1000)
    await payer.create(6000)
    with pytest.raises(PaymentRequired):
        await payer.create(1)


async def test_a_run_of_an_account_without_limit_holds_nothing_and_is_owed(resources: Resources) -> None:
    payer = await open_payer(resources, limit=None)
    await payer.run(2 * MICROS_PER_SECOND)
    books = await payer.proven()
    assert (books.balance_nanos, books.held_nanos) == (-2 * PRICE_NANOS_PER_SECOND, 0)
    assert (await payer.wallet()).spendable_nanos is None


async def test_what_a_run_costs_beyond_its_hold_is_waived(resources: Resources) -> None:
    payer = await open_payer(resources, put_in=DOLLAR)
    id = await payer.run(10 * MICROS_PER_SECOND, hold=PRICE_NANOS_PER_SECOND)
    assert (await payer.usage(id)).amount_nanos == 10 * PRICE_NANOS_PER_SECOND
    [waiver] = await payer.entries("waiver")
    assert waiver.amount_nanos == 9 * PRICE_NANOS_PER_SECOND
    assert (await payer.proven()).balance_nanos == DOLLAR - PRICE_NANOS_PER_SECOND


async def test_extending_and_ending_a_run_at_once_loses_no_hold(resources: Resources) -> None:
    payer = await open_payer(resources, put_in=DOLLAR)
    for _ in range(20):
        row = await payer.start((await payer.create(1000)).id)
        done = await gathered(
            payer.do(holds.extend, row.id, row.attempt, 500), payer.finish(row, MICROS_PER_SECOND), payer.fold()
        )
        assert done == {"done": 3}
    await payer.fold()
    books = await payer.proven()
    assert books.held_nanos == 0
    assert DOLLAR - 20 * 1500 <= books.balance_nanos <= DOLLAR - 20 * 1000


async def test_an_extension_the_wallet_lacks_is_refused_unless_what_runs_may_finish(resources: Resources) -> None:
    payer = await open_payer(resources, put_in=1000, when_empty="finish")
    row = await payer.start((await payer.create(1000)).id)
    with pytest.raises(PaymentRequired):
        await payer.do(holds.extend, row.id, row.attempt, 1)
    assert await payer.do(holds.extend, row.id, row.attempt, 10**6, at_any_rate=True)
    await payer.finish(row, MICROS_PER_SECOND)
    await payer.fold()
    assert (await payer.proven()).balance_nanos == 1000 - PRICE_NANOS_PER_SECOND
    assert not await payer.do(holds.extend, row.id, row.attempt, 1), "it has ended"


async def test_money_that_is_held_cannot_be_taken_out(resources: Resources) -> None:
    payer = await open_payer(resources, put_in=DOLLAR)
    await payer.create(DOLLAR // 2)
    with pytest.raises(Conflict, match=r"has 0\.500000000 dollars that are not spent or held"):
        await payer.do(credits.adjust, payer.id, amount_nanos=DOLLAR // 2 + 1, **BY_HAND)
    await payer.do(credits.adjust, payer.id, amount_nanos=DOLLAR // 2, **BY_HAND)
    assert (await payer.proven()).balance_nanos == DOLLAR // 2


@pytest.mark.parametrize("amount", [0, -1, 10**18 + 1, 10**12 * DOLLAR])
async def test_nothing_less_than_nothing_and_a_million_million_dollars_are_no_credit(
    resources: Resources, amount: int
) -> None:
    payer = await open_payer(resources)
    with pytest.raises(Invalid, match="more than 0 and at most 1000000000"):
        await payer.put_in(amount)
    with pytest.raises(Invalid, match="more than 0 and at most 1000000000"):
        await payer.do(credits.adjust, payer.id, amount_nanos=amount, **BY_HAND)
    assert (await payer.proven()).balance_nanos == 0


async def test_a_wallet_holds_a_billion_dollars_and_not_a_nanodollar_more(resources: Resources) -> None:
    payer = await open_payer(resources, put_in=10**18)
    with pytest.raises(Invalid, match="holds at most 1000000000"):
        await payer.put_in(1)
    assert (await payer.proven()).balance_nanos == 10**18


async def test_the_dearest_run_ends_and_is_added_up(resources: Resources) -> None:
    """A million dollars a second for a year is more than a bigint of nanodollars, and no charge."""
    payer = await open_payer(resources, limit=None)
    await payer.price(10**6 * DOLLAR)
    ids = [await payer.run(365 * 24 * 3600 * MICROS_PER_SECOND)]
    await payer.price(10**6 * DOLLAR, metric="image_count")
    ids.append(await payer.run(1, counted={"image_count": 10**12}))
    assert (await payer.proven()).balance_nanos == -2 * MOST_CHARGE_NANOS
    mine = {row.subject for found in await payer.do(differences) for row in found.rows} & {
        f"prediction:{id}" for id in ids
    }
    assert not mine


async def test_a_run_at_no_price_costs_nothing_and_is_on_record(resources: Resources) -> None:
    payer = await open_payer(resources, put_in=DOLLAR)
    await payer.price(0)
    id = await payer.run(MICROS_PER_SECOND, hold=1000)
    assert (await payer.usage(id)).amount_nanos == 0
    assert (await payer.proven()).balance_nanos == DOLLAR


async def test_a_low_balance_is_told_once_and_again_after_it_has_recovered(resources: Resources) -> None:
    payer = await open_payer(resources, put_in=DOLLAR, low_balance_nanos=DOLLAR - 1)

    async def told() -> int:
        kind = (Alert.account_id == payer.id, Alert.kind == "low_balance")
        return len(await payer.rows(sa.select(Alert.id).where(*kind)))

    assert await told() == 0
    for _ in range(3):
        await payer.run(MICROS_PER_SECOND, hold=PRICE_NANOS_PER_SECOND)
        assert await told() == 1
    await payer.put_in(DOLLAR)
    await payer.run(MICROS_PER_SECOND, hold=PRICE_NANOS_PER_SECOND)
    assert await told() == 1
    await payer.do(credits.adjust, payer.id, amount_nanos=DOLLAR, **BY_HAND)
    await payer.run(MICROS_PER_SECOND, hold=PRICE_NANOS_PER_SECOND)
    assert await told() == 2


async def test_a_run_that_ends_while_postgres_restarts_is_charged_once(resources: Resources) -> None:
    """The connection dies before, during or after the statement that ends it; whoever asks again learns what holds."""
    payer = await open_payer(resources, put_in=DOLLAR)
    killer = sa.create_engine(resources.database.engine.url)
    mine = sa.text(
        # Until it is gone: or it would take what is asked for next with it.
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' AND datname = current_database()"
    )

    async def ends(row: Any) -> None:
        """As a runner does it: until it is told that it has ended."""
        for _ in range(10):
            try:
                return await payer.finish(row, MICROS_PER_SECOND)
            except sa.exc.DBAPIError:
                continue
            except StaleWrite:
                return None
        raise AssertionError("the database did not come back")

    def kill() -> None:
        with killer.connect() as connection:
            connection.execute(mine)

    count = 8
    for _ in range(count):
        row = await payer.start((await payer.create(PRICE_NANOS_PER_SECOND)).id)
        await asyncio.gather(ends(row), asyncio.to_thread(kill))
    killer.dispose()
    await payer.fold()
    records = await payer.rows(sa.select(UsageRecord).where(UsageRecord.account_id == payer.id))
    assert len(records) == count
    books = await payer.proven()
    assert (books.balance_nanos, books.held_nanos) == (DOLLAR - count * PRICE_NANOS_PER_SECOND, 0)


async def test_two_folds_at_once_add_nothing_up_twice(resources: Resources) -> None:
    payer = await open_payer(resources, put_in=DOLLAR)
    for _ in range(30):
        row = await payer.start((await payer.create(PRICE_NANOS_PER_SECOND)).id)
        await payer.finish(row, MICROS_PER_SECOND)
    await gathered(*(payer.do(folding.fold, None, 7) for _ in range(10)), *(payer.do(folding.fold) for _ in range(3)))
    await payer.fold()
    assert (await payer.proven()).balance_nanos == DOLLAR - 30 * PRICE_NANOS_PER_SECOND


async def test_a_wallet_that_is_not_there_is_not_found(resources: Resources) -> None:
    payer = await open_payer(resources)
    with pytest.raises(NotFound):
        await payer.do(wallets.lock, "nobody")


async def test_a_canceled_prediction_gives_back_what_was_held(resources: Resources) -> None:
    payer = await open_payer(resources, put_in=1000)
    row = await payer.create(1000)
    await payer.do(predictions.cancel, payer.id, row.id)
    assert (await payer.wallet()).spendable_nanos == 1000, "before it is added up"
    await payer.fold()
    await payer.create(1000)
