"""What owners are told about their money: on the pages, and at their billing webhook."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Row, func, insert, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert

from core.clock import rfc3339
from core.database import Transaction
from core.errors import NotFound
from core.ids import new_id
from core.lifecycle import DeliveryStatus
from core.people import audit
from core.redis import DELIVERY_BELL, ring
from core.tables import Account, Alert, WebhookDelivery

EVENT = "billing.alert"


async def tell(
    tx: Transaction, account_id: str, kind: str, message: str, details: Mapping[str, Any], id: str | None = None
) -> None:
    """Puts an alert on record and owes it to the webhook, if there is one; the same `id` again is not told again."""
    values = {"id": id or new_id(), "account_id": account_id, "kind": kind, "message": message, "details": details}
    telling = upsert(Alert).values(**values).on_conflict_do_nothing(index_elements=["id"]).returning(Alert)
    alert = await tx.first(telling)
    if alert is None:
        return
    url = await tx.scalar(select(Account.billing_webhook_url).where(Account.id == account_id))
    if url:
        await _owe(tx, alert, url)


async def _owe(tx: Transaction, alert: Row, url: str) -> None:
    body = {
        "type": EVENT,
        "id": alert.id,
        "kind": alert.kind,
        "message": alert.message,
        "details": alert.details,
        "created_at": rfc3339(alert.created_at),
    }
    await tx.execute(
        insert(WebhookDelivery).values(
            id=f"msg_{new_id()}",
            account_id=alert.account_id,
            event=EVENT,
            body=body,
            url=url,
            status=DeliveryStatus.PENDING,
            next_attempt_at=func.now(),
        )
    )
    tx.after_commit(ring, DELIVERY_BELL)


async def unseen(tx: Transaction, account_id: str, limit: int = 20) -> list[Row]:
    """The latest first."""
    own = select(Alert).where(Alert.account_id == account_id, Alert.seen_at.is_(None))
    return list(await tx.all(own.order_by(Alert.created_at.desc()).limit(limit)))


async def list_page(
    tx: Transaction, account_id: str, limit: int, before: tuple[datetime, str] | None = None, seen: bool | None = None
) -> list[Row]:
    """Newest first; `before` is the (created_at, id) of the last one seen on the page before."""
    order = (Alert.created_at, Alert.id)
    own = select(Alert).where(Alert.account_id == account_id)
    if before is not None:
        own = own.where(tuple_(*order) < tuple_(*before))
    if seen is not None:
        own = own.where(Alert.seen_at.is_not(None) if seen else Alert.seen_at.is_(None))
    return list(await tx.all(own.order_by(*(column.desc() for column in order)).limit(limit)))


async def see(tx: Transaction, account_id: str, alert_id: str) -> Row:
    """Its owner has read it; the first time counts. Raises `NotFound`."""
    own = update(Alert).where(Alert.id == alert_id, Alert.account_id == account_id)
    row = await tx.first(own.values(seen_at=func.coalesce(Alert.seen_at, func.now())).returning(Alert))
    if row is None:
        raise NotFound("The requested alert could not be found.")
    return row


async def set_webhook(tx: Transaction, account_id: str, url: str | None) -> None:
    """Where the Account's alerts are sent from now on; None: nowhere."""
    own = select(Account.billing_webhook_url).where(Account.id == account_id)
    before = await tx.scalar(own.with_for_update())
    await tx.execute(update(Account).where(Account.id == account_id).values(billing_webhook_url=url))
    # Owners put passwords and keys into URLs: only their hosts are kept.
    await audit.record_change(
        tx,
        "billing_webhook.set",
        f"account:{account_id}",
        account_id=account_id,
        before={"host": _host(before)},
        after={"host": _host(url)},
    )


def _host(url: str | None) -> str | None:
    return None if url is None else urlsplit(url).hostname
