"""Accounts: whoever owns things and pays."""

import base64
import secrets

from sqlalchemy import Row, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from core import ledger
from core.database import Transaction, seconds_from_now
from core.errors import NotFound, PaymentRequired
from core.ids import new_id
from core.tables import Account

#: So long the secret before signs as well: time to replace it everywhere.
ROTATION_SECONDS = 24 * 3600


def new_webhook_secret() -> str:
    """`whsec_` and 24 bytes in *standard* base64: official clients break on the url-safe alphabet's underscore."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


async def ensure(tx: Transaction, username: str, name: str, type: str = "user", is_admin: bool = False) -> Row:
    """The account of that name, made if there is none."""
    await tx.execute(
        upsert(Account)
        .values(
            id=new_id(),
            type=type,
            username=username,
            name=name,
            is_admin=is_admin,
            webhook_secret=new_webhook_secret(),
        )
        .on_conflict_do_nothing(index_elements=["username"])
    )
    return await tx.one(select(Account).where(Account.username == username))


async def get(tx: Transaction, account_id: str) -> Row:
    return await tx.one(select(Account).where(Account.id == account_id))


async def by_username(tx: Transaction, username: str) -> Row:
    row = await tx.first(select(Account).where(Account.username == username))
    if row is None:
        raise NotFound("The requested account could not be found.")
    return row


async def limit_credit(tx: Transaction, account_id: str, nanos: int | None) -> None:
    """The account may owe so much before nothing new of it starts; None: without limit."""
    await tx.execute(update(Account).where(Account.id == account_id).values(credit_limit_nanos=nanos))


async def require_credit(tx: Transaction, account: Row) -> None:
    """Raises `PaymentRequired` where the account owes as much as it may."""
    limit = account.credit_limit_nanos
    if limit is not None and await ledger.balance(tx, ledger.account(account.id)) <= -limit:
        raise PaymentRequired()


async def rotate_webhook_secret(tx: Transaction, account_id: str) -> Row:
    """Signs with a new secret from now on, and for a day with the present one too; one before that is forgotten."""
    return await tx.one(
        update(Account)
        .where(Account.id == account_id)
        .values(
            webhook_secret=new_webhook_secret(),
            previous_webhook_secret=Account.webhook_secret,
            previous_webhook_secret_until=seconds_from_now(ROTATION_SECONDS),
        )
        .returning(Account)
    )


async def signing_secrets(tx: Transaction, account_id: str) -> list[str]:
    """What signs its webhooks now, the newest first."""
    row = await tx.one(
        select(
            Account.webhook_secret,
            Account.previous_webhook_secret,
            (Account.previous_webhook_secret_until > func.now()).label("previous_signs"),
        ).where(Account.id == account_id)
    )
    return [row.webhook_secret, row.previous_webhook_secret] if row.previous_signs else [row.webhook_secret]


async def forget_expired_secrets(tx: Transaction) -> int:
    """Removes secrets that sign no more; how many there were."""
    removed = await tx.execute(
        update(Account)
        .where(Account.previous_webhook_secret_until <= func.now())
        .values(previous_webhook_secret=None, previous_webhook_secret_until=None)
    )
    return removed.rowcount
