"""Accounts: whoever owns things and pays."""

import base64
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Row, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from core import concurrency
from core.database import Transaction, seconds_from_now
from core.errors import Conflict, Invalid, NotFound
from core.ids import new_id
from core.money import credits, wallets
from core.people import audit
from core.tables import Account, Wallet

_USERNAME = re.compile(r"(?=.{1,39}$)[a-z0-9]+(-[a-z0-9]+)*")

#: The account that owns the models that come along.
PUBLISHER = "millrace"

#: So long the secret before signs as well: time to replace it everywhere.
ROTATION_SECONDS = 24 * 3600


def new_webhook_secret() -> str:
    """`whsec_` and 24 bytes in *standard* base64: official clients break on the url-safe alphabet's underscore."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


async def ensure(tx: Transaction, username: str, name: str, type: str = "user", is_admin: bool = False) -> Row:
    """The account of that name, made if there is none; also one that is deleted."""
    made = await tx.first(
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
        .returning(Account.id)
    )
    row = await tx.one(select(Account).where(Account.username == username))
    await wallets.open_wallet(tx, row.id)
    if made is not None:
        after = {"username": username, "type": type, "is_admin": is_admin}
        await audit.record(tx, "account.create", f"account:{row.id}", account_id=row.id, after=after)
    return row


@dataclass(frozen=True, slots=True)
class Terms:
    """How a new Account pays: 0 is prepaid, None without limit; and what it is given to begin with."""

    credit_limit_nanos: int | None = None
    starting_credit_nanos: int = 0


async def create(tx: Transaction, username: str, name: str, terms: Terms, type: str = "user") -> Row:
    """A new Account with its wallet. Raises `Conflict` where the name is taken, `Invalid` where it cannot be one."""
    if not _USERNAME.fullmatch(username):
        raise Invalid("A username has 1 to 39 lower-case letters, digits and single hyphens between them.")
    if await tx.first(select(Account.id).where(Account.username == username)) is not None:
        raise Conflict(f"There is an account {username} already.")
    row = await ensure(tx, username, name, type)
    await wallets.set_terms(tx, row.id, credit_limit_nanos=terms.credit_limit_nanos)
    if terms.starting_credit_nanos:
        given = {"kind": credits.PROMOTIONAL, "amount_nanos": terms.starting_credit_nanos, "actor": "new accounts"}
        await credits.add(tx, row.id, reason="Starting credit", **given)
    return row


async def with_balances(tx: Transaction) -> Sequence[Row]:
    """All of them, deleted ones as well, by name; with what their wallets have, as of the last fold."""
    found = select(Account, Wallet.balance_nanos, Wallet.credit_limit_nanos).join(
        Wallet, Wallet.account_id == Account.id
    )
    return await tx.all(found.order_by(Account.username))


async def limit_running(tx: Transaction, account_id: str, max_running: int | None) -> Row:
    """From the next one on, so many of its predictions run at once; 0: no limit, None: what the server has for all."""
    before = await tx.one(select(Account.max_running).where(Account.id == account_id).with_for_update())
    changed = update(Account).where(Account.id == account_id).values(max_running=max_running)
    row = await tx.one(changed.returning(Account))
    await concurrency.limit(tx, account_id, max_running)
    facts = {"before": {"max_running": before.max_running}, "after": {"max_running": max_running}}
    await audit.record(tx, "account.limit", f"account:{account_id}", account_id=account_id, **facts)
    return row


async def get(tx: Transaction, account_id: str) -> Row:
    return await tx.one(select(Account).where(Account.id == account_id))


async def by_username(tx: Transaction, username: str) -> Row:
    row = await tx.first(select(Account).where(Account.username == username))
    if row is None:
        raise NotFound("The requested account could not be found.")
    return row


async def rotate_webhook_secret(tx: Transaction, account_id: str) -> Row:
    """Signs with a new secret from now on, and for a day with the present one too; one before that is forgotten."""
    await audit.record(tx, "account.rotate_webhook_secret", f"account:{account_id}", account_id=account_id)
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
