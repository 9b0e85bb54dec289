"""Alerts about money, to a real receiver: signed like every webhook, and on record."""

import asyncio
from dataclasses import replace

from sqlalchemy import Row, select, update

from core.ids import new_id
from core.money import alerts
from core.people import accounts
from core.resources import Resources
from core.tables import Account, WebhookDelivery
from tests.support.receiver import running_receiver
from worker.deliveries import Sender

#: Far more than the sender's own naps.
PATIENCE_SECONDS = 30.0


async def test_an_alert_is_posted_once_signed_and_on_record(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        account = await accounts.ensure(tx, f"user-{new_id()}", "Some User")
    async with running_receiver(account.webhook_secret) as receiver:
        async with resources.database.transaction() as tx:
            own = update(Account).where(Account.id == account.id)
            await tx.execute(own.values(billing_webhook_url=receiver.url))
        id = new_id()
        for _ in range(2):
            async with resources.database.transaction() as tx:
                await alerts.tell(tx, account.id, "low_balance", "Little is left.", {"balance_nanos": 7}, id=id)
        stop = asyncio.Event()
        settings = resources.settings.model_copy(update={"allow_private_webhooks": True})
        running = asyncio.create_task(Sender(replace(resources, settings=settings)).run(stop))
        delivery = await delivered(resources, account.id)
        stop.set()
        await running
    [got] = receiver.received[id]
    assert (got.message_id, receiver.refused) == (delivery.id, [])
    assert {key: got.body[key] for key in ("type", "kind", "message", "details")} == {
        "type": "billing.alert",
        "kind": "low_balance",
        "message": "Little is left.",
        "details": {"balance_nanos": 7},
    }


async def delivered(resources: Resources, account_id: str) -> Row:
    """Its delivery, once that has arrived."""
    for _ in range(int(PATIENCE_SECONDS / 0.02)):
        async with resources.database.autocommit() as tx:
            row = await tx.one(select(WebhookDelivery).where(WebhookDelivery.account_id == account_id))
        if row.status == "delivered":
            return row
        await asyncio.sleep(0.02)
    raise AssertionError("The alert has not been delivered.")
