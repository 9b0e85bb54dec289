"""A top-up is credited once, whatever is told how often and in which order; and never without the money."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator

import pytest

from core.errors import BadRequest, Conflict, Invalid, Unavailable
from core.ids import new_id
from core.payments import paying, payment_methods, payments
from core.payments.payments import TopUpKind, TopUpStatus
from core.payments.stripe_payments import StripePayments
from core.resources import Resources
from core.tables import AuditEvent, PaymentEvent
from tests.support.paying import Till, dollars, open_till, settings_for
from tests.support.stand_ins.stripe import StripeStandIn


@pytest.fixture
async def till(resources: Resources) -> AsyncIterator[Till]:
    async with open_till(resources) as till:
        yield till


async def test_what_is_paid_on_the_page_is_credited_once_and_its_card_is_saved(till: Till) -> None:
    account = await till.account()
    top_up = await till.checkout(account, 25)
    assert (top_up.status, await till.balance(account)) == ("pending", 0)
    till.stripe.pay(top_up.reference)
    for event in till.stripe.events * 10:
        await till.hear(event)
    done = await till.top_up(top_up.id)
    assert (done.status, done.reference[:3], done.failure) == ("succeeded", "pi_", None)
    assert await till.balance(account) == dollars(25)
    [credit] = await till.credits(account)
    assert (credit.id, credit.kind, credit.actor) == (top_up.id, "paid", account.username)
    assert (await till.method(account)).label == "visa 4242"
    assert {row.type for row in await till.rows(PaymentEvent)} >= {event["type"] for event in till.stripe.events}


async def test_ten_copies_of_an_event_at_once_credit_once(till: Till) -> None:
    account = await till.account()
    top_up = await till.checkout(account, 25)
    till.stripe.pay(top_up.reference)
    await asyncio.gather(*(till.hear(event) for event in till.stripe.events * 5))
    assert await till.balance(account) == dollars(25)


async def test_events_out_of_order_lead_to_the_same_end(till: Till) -> None:
    """A declined card, another that works, and the page's end: in any order."""
    account = await till.account()
    for count, order in enumerate(itertools.islice(itertools.permutations(range(4)), 0, None, 3), 1):
        seen = len(till.stripe.events)
        top_up = await till.checkout(account, 10)
        till.stripe.declines = True
        till.stripe.pay(top_up.reference)
        till.stripe.declines = False
        till.stripe.pay(top_up.reference)
        session = till.stripe.objects[top_up.reference]
        till.stripe._tell("checkout.session.expired", session)
        events = till.stripe.events[seen:]
        assert len(events) == 4
        for index in order:
            await till.hear(events[index])
        assert await till.balance(account) == dollars(10 * count)


async def test_a_page_that_nobody_pays_on_expires(till: Till) -> None:
    account = await till.account()
    top_up = await till.checkout(account, 25)
    till.stripe.expire(top_up.reference)
    await till.hear_everything()
    expired = await till.top_up(top_up.id)
    assert (expired.status, expired.failure) == ("expired", "Nobody paid in time.")
    assert await till.balance(account) == 0


async def test_what_was_paid_after_all_is_credited(till: Till) -> None:
    """Given up, because Stripe did not know of it; then it does."""
    account = await till.account()
    top_up = await till.checkout(account, 25)
    async with till.database.transaction() as tx:
        await payments.give_up(tx, top_up.id, TopUpStatus.EXPIRED, "The provider does not know of it.")
    till.stripe.pay(top_up.reference)
    await till.hear_everything()
    assert (await till.top_up(top_up.id)).status == "succeeded"
    assert await till.balance(account) == dollars(25)


async def test_an_event_that_never_came_is_not_needed(till: Till) -> None:
    account = await till.account()
    top_up = await till.checkout(account, 25)
    till.stripe.pay(top_up.reference)
    await till.settle(account)
    assert (await till.top_up(top_up.id)).status == "succeeded"
    await till.hear_everything()
    assert await till.balance(account) == dollars(25)


async def test_an_event_may_come_before_we_know_what_the_page_is_called(till: Till) -> None:
    """The answer with the page's name is lost, and yet somebody pays on it."""
    account = await till.account()
    id, known = new_id(), (await till.checkout(account, 5)).reference
    till.stripe.lost_answers = 1
    with pytest.raises(Unavailable):
        await till.checkout(account, 25, id)
    [unknown] = {session["id"] for session in till.stripe.of("checkout.session")} - {known}
    till.stripe.pay(unknown)
    await till.hear_everything()
    assert (await till.top_up(id)).status == "succeeded"
    assert await till.balance(account) == dollars(25)


async def test_the_same_top_up_asked_for_again_is_the_same_page(till: Till) -> None:
    account, id = await till.account(), new_id()
    till.stripe.refusals = 1
    with pytest.raises(Unavailable):
        await till.checkout(account, 25, id)
    first, second = await till.checkout(account, 25, id), await till.checkout(account, 25, id)
    assert first == second
    assert len(till.stripe.of("checkout.session")) == 1
    assert len(till.stripe.of("customer")) == 1


async def test_another_sum_than_was_asked_for_is_not_credited_and_told_to_the_admin(till: Till) -> None:
    admin, account = await till.account(is_admin=True), await till.account()
    top_up = await till.checkout(account, 25)
    till.stripe.objects[top_up.reference]["amount_total"] = 2400
    till.stripe.pay(top_up.reference)
    for _ in range(3):
        await till.hear_everything()
        await till.settle(account)
    refused = await till.top_up(top_up.id)
    assert refused.status == "failed"
    assert refused.failure == "The provider took 2400 (smallest units of USD) where 2500 cents were asked for."
    assert await till.balance(account) == 0
    [alert] = await till.alerts(admin)
    assert "look into it" in alert.message


async def test_another_currency_is_another_sum(till: Till) -> None:
    account = await till.account()
    top_up = await till.checkout(account, 25)
    till.stripe.objects[top_up.reference]["currency"] = "jpy"
    till.stripe.pay(top_up.reference)
    await till.hear_everything()
    assert (await till.top_up(top_up.id)).status == "failed"
    assert await till.balance(account) == 0


async def test_what_an_event_claims_is_not_believed(till: Till) -> None:
    """Signed, but of a payment that Stripe itself calls unpaid."""
    account = await till.account()
    top_up = await till.checkout(account, 25)
    session = {**till.stripe.objects[top_up.reference], "status": "complete", "payment_status": "paid"}
    till.stripe._tell("checkout.session.completed", session)
    await till.hear_everything()
    assert (await till.top_up(top_up.id)).status == "pending"


async def test_a_payment_whose_top_up_is_not_there_is_told_to_the_admin(till: Till) -> None:
    """The database was restored from a backup that is older than the top-up."""
    admin, account = await till.account(is_admin=True), await till.account()
    top_up = await till.checkout(account, 25)
    till.stripe.objects[top_up.reference]["_intent_metadata"]["top_up"] = "gone"
    till.stripe.objects[top_up.reference]["metadata"]["top_up"] = "gone"
    till.stripe.pay(top_up.reference)
    await till.hear_everything()
    [alert] = await till.alerts(admin)
    assert "top up by hand" in alert.message
    assert await till.balance(account) == 0


async def test_what_others_sell_by_the_same_stripe_account_is_none_of_ours(till: Till) -> None:
    account = await till.account()
    top_up = await till.checkout(account, 25)
    session = till.stripe.objects[top_up.reference]
    session["metadata"] = session["_intent_metadata"] = {"millrace": "another installation", "top_up": top_up.id}
    till.stripe.pay(top_up.reference)
    till.stripe.refund(session["payment_intent"], 100)
    till.stripe._tell("invoice.paid", {"id": "in_1", "object": "invoice"})
    await till.hear_everything()
    assert (await till.top_up(top_up.id)).status == "pending"
    assert await till.balance(account) == 0


async def test_what_goes_back_to_the_payer_is_taken_out_once(till: Till) -> None:
    account = await till.saved(below=10, to=50)
    [intent] = till.stripe.of("payment_intent")
    refund = till.stripe.refund(intent["id"], 200)
    till.stripe.refund(intent["id"], 100)
    for event in till.stripe.events * 3:
        await till.hear(event)
    assert await till.paid_in(account) == 200
    # Or the card would be charged again for what was just given back.
    assert (await till.method(account)).recharge_below_nanos is None
    till.stripe.fail_refund(refund)
    await till.hear_everything()
    assert await till.paid_in(account) == 400
    dispute = till.stripe.dispute(intent["id"])
    await till.hear_everything()
    assert await till.paid_in(account) == 0
    till.stripe.win(dispute)
    for event in reversed(till.stripe.events):
        await till.hear(event)
    assert await till.paid_in(account) == 400 == till.stripe.kept_cents(intent["customer"])
    assert len(await till.alerts(account)) == 5


async def test_every_one_of_many_refunds_counts(till: Till) -> None:
    account = await till.saved()
    [intent] = till.stripe.of("payment_intent")
    for _ in range(12):
        till.stripe.refund(intent["id"], 10)
    # Whichever event comes, the others are not needed.
    await till.hear(till.stripe.events[-1])
    assert await till.paid_in(account) == 500 - 120


@pytest.mark.parametrize("amount", [0, 4.99, 10_000.01, -5])
async def test_a_top_up_is_five_to_ten_thousand_dollars(till: Till, amount: float) -> None:
    with pytest.raises(Invalid, match="5 to 10000 dollars"):
        await till.checkout(await till.account(), amount)
    assert not till.stripe.requests


async def test_pages_are_not_opened_without_end(till: Till) -> None:
    account = await till.account()
    for _ in range(payments.MOST_OPEN):
        await till.checkout(account, 5)
    with pytest.raises(Conflict, match="open already"):
        await till.checkout(account, 5)
    # What recharges by itself does not wait for that.
    async with till.database.transaction() as tx:
        await payments.start(tx, new_id(), account.id, TopUpKind.RECHARGE, dollars(5), "stripe", "auto-recharge")


async def test_a_forgotten_method_is_gone_at_both_ends(till: Till) -> None:
    account = await till.saved()
    till.stripe.lost_answers = 1
    with pytest.raises(Unavailable):
        await paying.forget(till.database, till.provider, account.id)
    await paying.forget(till.database, till.provider, account.id)
    method = await till.method(account)
    assert (method.method, method.label, method.recharge_below_nanos) == (None, None, None)
    assert [each["customer"] for each in till.stripe.of("payment_method")] == [None]


async def test_recharging_needs_a_saved_method_and_sane_bounds(till: Till) -> None:
    account = await till.saved()
    for below, to in ((4.99, 50), (5, 14.99), (20, 24.99), (5, 10_001)):
        async with till.database.transaction() as tx:
            with pytest.raises(Invalid):
                await payment_methods.set_recharge(tx, account.id, dollars(below), dollars(to))
    async with till.database.transaction() as tx:
        with pytest.raises(Conflict, match="top up by card once"):
            await payment_methods.set_recharge(tx, (await till.account()).id, dollars(5), dollars(15))


async def test_who_did_what_is_on_record(till: Till) -> None:
    account = await till.saved()
    rows = await till.rows(AuditEvent, AuditEvent.account_id == account.id)
    done = {row.action: row.actor for row in rows}
    assert done.keys() >= {"top_up.start", "top_up.succeed", "payment_method.save", "payment_method.set_recharge"}
    assert done["top_up.succeed"] == "stripe"


# --- signatures -------------------------------------------------------------------------------------------------------


EVENT = {"id": "evt_1", "object": "event", "type": "charge.refunded", "data": {"object": {"object": "charge"}}}


def test_an_event_is_read_as_it_was_signed(till: Till) -> None:
    body, signature = till.stripe.signed(EVENT)
    assert till.provider.read(body, signature).id == "evt_1"
    for wrong in (
        (body + b" ", signature),
        (body.replace(b"evt_1", b"evt_2"), signature),
        (body, None),
        (body, ""),
        (body, "t=,v1="),
        (body, signature.replace("v1=", "v0=")),
        (body, signature[:-1] + "é"),
        (body, "t=" + "9" * 5000 + ",v1=0"),
        (b"\xff\xfe", signature),
        till.stripe.signed(EVENT, secret="whsec_another"),
        till.stripe.signed(EVENT, at=time.time() - 400),
        (b"[]", None),
    ):
        with pytest.raises(BadRequest, match="signed"):
            till.provider.read(*wrong)


def test_events_cannot_be_verified_without_the_secret(resources: Resources) -> None:
    settings = settings_for(resources.settings, StripeStandIn())
    provider = StripePayments(settings.model_copy(update={"stripe_webhook_secret": ""}))
    with pytest.raises(Unavailable, match="MILLRACE_STRIPE_WEBHOOK_SECRET"):
        provider.read(b"{}", "t=1,v1=0")
