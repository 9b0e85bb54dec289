"""Logins: the people who may open an Account's pages, by email and password. Knows nothing of browsers."""

import re
from collections.abc import Sequence

from sqlalchemy import Row, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from core.database import Database, Transaction
from core.errors import Conflict, Invalid, NotFound
from core.ids import new_id
from core.people import audit, sessions
from core.people.passwords import hash_password, matches
from core.tables import Account, Login

#: What mail servers take; the rest is between them and whoever typed it.
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,189}")

# Everything but the hash.
_SHOWN = [column for column in Login.__table__.c if column.name != "password_hash"]
_ACTIVE = (Login.disabled_at.is_(None), Account.deleted_at.is_(None))


def normal(email: str) -> str:
    """As it is kept and compared. Raises `Invalid` where it is no email address."""
    email = email.strip().lower()
    if not _EMAIL.fullmatch(email):
        raise Invalid("An email address looks like ada@example.com.")
    return email


async def create(tx: Transaction, account_id: str, email: str, password: str) -> Row:
    """Raises `Invalid` for an address or a password that cannot be, `Conflict` where somebody has that address."""
    values = {"id": new_id(), "account_id": account_id, "email": normal(email)}
    adding = upsert(Login).values(**values, password_hash=await hash_password(password))
    row = await tx.first(adding.on_conflict_do_nothing(index_elements=["email"]).returning(*_SHOWN))
    if row is None:
        raise Conflict(f"There is a login {values['email']} already.")
    await audit.record(tx, "login.create", row.email, account_id=account_id, after={"email": row.email})
    return row


async def by_email(tx: Transaction, email: str) -> Row:
    """Disabled ones as well. Raises `NotFound`."""
    return _found(await tx.first(select(*_SHOWN).where(Login.email == email.strip().lower())))


async def seed(tx: Transaction, account_id: str, email: str, password: str) -> None:
    """The login of whoever installs this, unless there is one by that email: its password is its owner's by now."""
    if await tx.first(select(Login.id).where(Login.email == normal(email))) is None:
        await create(tx, account_id, email, password)


async def list_all(tx: Transaction, account_id: str | None = None) -> Sequence[Row]:
    """Oldest first, with the `username` of its account; of one account, or of all."""
    statement = select(*_SHOWN, Account.username).join(Account, Account.id == Login.account_id)
    if account_id is not None:
        statement = statement.where(Login.account_id == account_id)
    return await tx.all(statement.order_by(Login.created_at, Login.id))


async def check(database: Database, email: str, password: str) -> Row | None:
    """The login these belong to. None takes as long, whatever is wrong; no connection is held meanwhile."""
    finding = select(Login).join(Account, Account.id == Login.account_id)
    async with database.autocommit() as tx:
        row = await tx.first(finding.where(Login.email == email.strip().lower(), *_ACTIVE))
    return row if await matches(row and row.password_hash, password) else None


async def change_password(tx: Transaction, login_id: str, password: str) -> None:
    """Ends all its sessions. Raises `Invalid`."""
    changing = update(Login).where(Login.id == login_id).values(password_hash=await hash_password(password))
    row = _found(await tx.first(changing.returning(*_SHOWN)))
    await sessions.end_all(tx, login_id)
    await audit.record(tx, "login.change_password", row.email, account_id=row.account_id)


async def disable(tx: Transaction, login_id: str) -> None:
    """Nobody logs in by it any more, and all its sessions end."""
    disabling = update(Login).where(Login.id == login_id)
    disabling = disabling.values(disabled_at=func.coalesce(Login.disabled_at, func.now()))
    row = _found(await tx.first(disabling.returning(*_SHOWN)))
    await sessions.end_all(tx, login_id)
    await audit.record(tx, "login.disable", row.email, account_id=row.account_id)


def _found(row: Row | None) -> Row:
    if row is None:
        raise NotFound("There is no such login.")
    return row
