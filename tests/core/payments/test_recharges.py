"""A card is charged by itself only when that is due, once, and not again and again."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from core.errors import Unavailable
from core.money import wallets
from core.payments import payment_methods, recharges
from core.payments.paying import REPEAT_SECONDS
from core.payments.recharges import MOST_IN_BURST, Standing, due_nanos
from core.payments.stripe_payments import StripePayments
from core.resources import Resources
from tests.support.paying import Till, dollars, open_till, settings_for


@pytest.fixture
async def till(resources: Resources) -> AsyncIterator[Till]:
    async with open_till(resources) as till:
        yield till


@pytest.mark.parametrize(
    ("left", "pending", "charged"),
    [
        (10, 0, 0),
        (9.99, 0, 40.01),
        (0, 0, 50),
        (-3.5, 0, 53.5),
        (0, 10, 0),
        (0, 9.5, 40.5),
        (-20_000, 0, 10_000),
    ],
)
def test_what_is_missing_is_charged_and_what_is_on_its_way_counts(left: float, pending: float, charged: float) -> None:
    standing = Standing(dollars(left), dollars(pending), dollars(10), dollars(50))
    assert due_nanos(standing) == dollars(charged)


def test_fractions_of_a_cent_are_rounded_up() -> None:
    standing = Standing(dollars(9) - 1, 0, dollars(10), dollars(50))
    assert due_nanos(standing) == dollars(41.01)


def test_neither_during_a_pause_nor_in_a_burst() -> None:
    assert due_nanos(Standing(0, 0, dollars(10), dollars(50), is_paused=True)) == 0
    assert due_nanos(Standing(0, 0, dollars(10), dollars(50), recent=MOST_IN_BURST)) == 0
    assert due_nanos(Standing(0, 0, dollars(10), dollars(50), recent=MOST_IN_BURST - 1)) == dollars(50)


async def spend(till: Till, account, amount: float) -> None:
    async with till.database.transaction() as tx:
        await wallets.add(tx, account.id, -dollars(amount))


async def candidates(till: Till) -> list[str]:
    async with till.database.autocommit() as tx:
        return await recharges.candidates(tx, 1000)


async def test_a_wallet_that_runs_low_is_found_and_filled(till: Till) -> None:
    account = await till.saved(below=10, to=50)
    assert account.id in await candidates(till)
    await till.recharge(account)
    await till.recharge(account)
    assert await till.balance(account) == dollars(50)
    assert account.id not in await candidates(till)
    [top_up] = await till.recharges(account)
    assert (top_up.status, top_up.actor, top_up.amount_nanos) == ("succeeded", "auto-recharge", dollars(50))
    # The event says the same once more.
    await till.hear_everything()
    assert await till.balance(account) == dollars(50)


async def test_jobs_at_once_charge_once(till: Till) -> None:
    account = await till.saved()
    await asyncio.gather(*(till.recharge(account) for _ in range(5)))
    assert await till.paid_in(account) == 500 + 5000
    assert len(await till.recharges(account)) == 1


async def test_nothing_is_held_while_stripe_is_asked(till: Till) -> None:
    account = await till.saved()
    seen = []

    async def look() -> None:
        seen.append(till.database.engine.pool.checkedout())
        # Neither is its row: its owner may switch it off meanwhile.
        async with till.database.transaction() as tx:
            await payment_methods.stop_recharge(tx, account.id)

    till.stripe.before_charging = look
    await till.recharge(account)
    assert seen == [0]
    assert await till.balance(account) == dollars(50)


async def test_a_declined_card_has_an_hour_of_peace_and_its_owner_is_told(till: Till) -> None:
    account = await till.saved()
    till.stripe.declines = True
    for _ in range(5):
        await till.recharge(account)
    await till.hear_everything()
    [top_up] = await till.recharges(account)
    assert (top_up.status, top_up.failure) == ("failed", "Your card was declined.")
    assert top_up.reference.startswith("pi_")
    [alert] = await till.alerts(account)
    assert alert.kind == "recharge_failed"
    assert "Your card was declined." in alert.message
    assert account.id not in await candidates(till)
    till.stripe.declines = False
    await till.resume(account)
    assert account.id in await candidates(till)
    await till.recharge(account)
    assert await till.balance(account) == dollars(50)


async def test_another_card_ends_the_pause(till: Till) -> None:
    account = await till.saved()
    till.stripe.declines = True
    await till.recharge(account)
    till.stripe.declines = False
    till.stripe.pay((await till.checkout(account, 5)).reference)
    await till.hear_everything()
    await till.recharge(account)
    assert await till.balance(account) == dollars(50)


async def test_no_more_than_three_in_ten_minutes(till: Till) -> None:
    account = await till.saved()
    for _ in range(MOST_IN_BURST + 2):
        await till.recharge(account)
        await spend(till, account, 45)
    assert len(await till.recharges(account)) == MOST_IN_BURST


async def test_an_owner_on_the_page_is_not_charged_meanwhile(till: Till) -> None:
    account = await till.saved()
    top_up = await till.checkout(account, 100)
    await till.recharge(account)
    assert not await till.recharges(account)
    await till.age(top_up.id, recharges.CHECKOUT_SECONDS + 1)
    await till.recharge(account)
    assert len(await till.recharges(account)) == 1


@pytest.mark.parametrize("fault", ["lost_answers", "refusals"])
async def test_a_call_that_was_cut_off_is_made_again_and_charges_once(till: Till, fault: str) -> None:
    """Its answer was lost, or the call itself: nobody knows which."""
    account = await till.saved()
    setattr(till.stripe, fault, 1)
    with pytest.raises(Unavailable):
        await till.recharge(account)
    # What is on its way counts.
    await till.recharge(account)
    [top_up] = await till.recharges(account)
    assert (top_up.status, top_up.reference) == ("pending", None)
    await till.settle(account)
    await till.settle(account)
    assert [top_up.status for top_up in await till.recharges(account)] == ["succeeded"]
    assert await till.balance(account) == dollars(50)
    assert len(till.stripe.charges) == 2


async def test_what_is_switched_off_meanwhile_is_not_charged(till: Till) -> None:
    account = await till.saved()
    till.stripe.refusals = 1
    with pytest.raises(Unavailable):
        await till.recharge(account)
    async with till.database.transaction() as tx:
        await payment_methods.stop_recharge(tx, account.id)
    await till.settle(account)
    [top_up] = await till.recharges(account)
    assert top_up.status == "pending"
    await till.age(top_up.id, 25 * 3600)
    await till.settle(account)
    [top_up] = await till.recharges(account)
    assert (top_up.status, top_up.failure) == ("failed", "The provider does not know of it.")
    assert len(till.stripe.charges) == 1


async def test_what_was_charged_before_it_was_switched_off_is_credited(till: Till) -> None:
    account = await till.saved()
    till.stripe.lost_answers = 1
    with pytest.raises(Unavailable):
        await till.recharge(account)
    async with till.database.transaction() as tx:
        await payment_methods.stop_recharge(tx, account.id)
    await till.settle(account)
    assert [top_up.status for top_up in await till.recharges(account)] == ["succeeded"]
    assert await till.balance(account) == dollars(50)


async def test_what_stripe_has_forgotten_the_key_of_is_looked_for_and_not_charged_again(till: Till) -> None:
    account = await till.saved()
    till.stripe.lost_answers = 1
    with pytest.raises(Unavailable):
        await till.recharge(account)
    [top_up] = await till.recharges(account)
    till.stripe.forget_keys()
    await till.age(top_up.id, REPEAT_SECONDS + 60)
    await till.settle(account)
    assert await till.balance(account) == dollars(50)
    assert len(till.stripe.charges) == 2


async def test_with_a_key_that_was_taken_back_everything_waits(till: Till) -> None:
    account, top_up = await till.saved(), await till.checkout(await till.account(), 5)
    settings = settings_for(till.resources.settings, till.stripe).model_copy(update={"stripe_secret_key": "sk_old"})
    refused = Till(till.resources, till.stripe, StripePayments(settings, retries=0))
    with pytest.raises(Unavailable):
        await refused.recharge(account)
    await refused.settle(account)
    await refused.provider.close()
    [recharge] = await till.recharges(account)
    assert (recharge.status, (await till.top_up(top_up.id)).status) == ("pending", "pending")
    await till.settle(account)
    assert await till.balance(account) == dollars(50)


async def test_a_card_that_was_replaced_meanwhile_is_not_charged_as_well(till: Till) -> None:
    account = await till.saved()
    till.stripe.lost_answers = 1
    with pytest.raises(Unavailable):
        await till.recharge(account)
    till.stripe.pay((await till.checkout(account, 5)).reference)
    await till.hear_everything()
    await till.settle(account)
    assert await till.balance(account) == dollars(55)
    assert await till.paid_in(account) == 5 * 100 + 50 * 100 + 5 * 100


async def test_a_method_that_is_gone_at_stripe_fails(till: Till) -> None:
    account = await till.saved()
    [method] = till.stripe.of("payment_method")
    method["customer"] = None
    await till.recharge(account)
    [top_up] = await till.recharges(account)
    assert (top_up.status, top_up.failure) == ("failed", "The saved method cannot be charged.")
    assert account.id not in await candidates(till)
