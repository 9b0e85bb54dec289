"""Tokens: what they may do, whom they speak for. Only their hashes are kept."""

import hashlib
import secrets
from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Row, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert

from core.database import Transaction
from core.errors import Conflict, Forbidden, NotFound
from core.ids import new_id
from core.people import audit
from core.tables import Account, Token, Wallet

_TOKEN_PREFIX = "mr_"
_PREFIX_SHOWN = 8


class Scope(StrEnum):
    """What a token may do. They include nothing of each other: an app that runs models has `read` and `run`."""

    READ = "read"  #: See what the account may see.
    RUN = "run"  #: Create and cancel predictions and trainings, upload files, read the key that signs webhooks.
    WRITE = "write"  #: Change Models, Versions and Deployments, and send webhooks again.
    BILLING = "billing"  #: See what was used and what is owed.
    ADMIN = "admin"  #: Manage tokens and keys; for the admin of a server, what everybody sees.


EVERY_SCOPE = tuple(Scope)


def new_token() -> str:
    return _TOKEN_PREFIX + secrets.token_hex(20)


def hash_token(token: str) -> bytes:
    # Tokens carry 160 bits of chance, so a fast hash is as good as a slow one and costs no request 50 ms.
    return hashlib.sha256(token.encode()).digest()


async def add(tx: Transaction, account_id: str, token: str, name: str) -> None:
    """Stores a token that somebody has already, with every scope; the same one twice is one token."""
    values = _values(new_id(), account_id, token, name, EVERY_SCOPE, None)
    adding = upsert(Token).values(**values).on_conflict_do_nothing(index_elements=["token_hash"])
    row = await tx.first(adding.returning(*_SHOWN))
    if row is not None:
        await _record(tx, "token.create", row, after=_facts(row))


async def create(
    tx: Transaction,
    id: str,
    account_id: str,
    name: str,
    scopes: Collection[Scope] = EVERY_SCOPE,
    expires_at: datetime | None = None,
) -> tuple[Row, str]:
    """The row and the token itself, which nobody can see again. Raises `Conflict` where there is one of that id."""
    token = new_token()
    values = _values(id, account_id, token, name, scopes, expires_at)
    adding = upsert(Token).values(**values).on_conflict_do_nothing(index_elements=["id"])
    row = await tx.first(adding.returning(*_SHOWN))
    if row is None:
        raise Conflict(
            f"This request has made the token {id} already, and a token is shown only once. "
            "If you have not got it, revoke it and create another, with a new Idempotency-Key."
        )
    await _record(tx, "token.create", row, after=_facts(row))
    return row, token


def _values(
    id: str, account_id: str, token: str, name: str, scopes: Collection[Scope], expires_at: datetime | None
) -> dict[str, Any]:
    return {
        "id": id,
        "account_id": account_id,
        "name": name,
        "prefix": token[:_PREFIX_SHOWN],
        "token_hash": hash_token(token),
        "scopes": [scope.value for scope in Scope if scope in scopes],
        "expires_at": expires_at,
    }


def grant(creator: Collection[str], wanted: Collection[Scope] | None) -> list[Scope]:
    """The scopes of a token made by one that has `creator`: all of them by default. Raises `Forbidden` for others."""
    lacking = [scope for scope in wanted or () if scope not in creator]
    if lacking:
        raise Forbidden(f"This token cannot give what it lacks itself: {', '.join(lacking)}.")
    return [scope for scope in Scope if scope in (creator if wanted is None else wanted)]


# Everything but the hash.
_SHOWN = [column for column in Token.__table__.c if column.name != "token_hash"]
_ORDER = (Token.created_at, Token.id)


async def list_page(
    tx: Transaction, account_id: str, limit: int | None = None, before: tuple[datetime, str] | None = None
) -> list[Row]:
    """Newest first, with those that are expired or revoked; `before` is the (created_at, id) of the last one seen."""
    statement = select(*_SHOWN).where(Token.account_id == account_id)
    if before is not None:
        statement = statement.where(tuple_(*_ORDER) < tuple_(*before))
    return list(await tx.all(statement.order_by(*(column.desc() for column in _ORDER)).limit(limit)))


async def get(tx: Transaction, account_id: str, token_id: str) -> Row:
    return _found(await tx.first(select(*_SHOWN).where(*_of(account_id, token_id))))


async def rename(tx: Transaction, account_id: str, token_id: str, name: str) -> Row:
    before = _found(await tx.first(select(*_SHOWN).where(*_of(account_id, token_id)).with_for_update()))
    row = await tx.one(update(Token).where(Token.id == token_id).values(name=name).returning(*_SHOWN))
    if row.name != before.name:
        await _record(tx, "token.rename", row, before={"name": before.name}, after={"name": row.name})
    return row


async def revoke(tx: Transaction, account_id: str, token_id: str) -> Row:
    """For good. One that is revoked already stays revoked since then."""
    valid = *_of(account_id, token_id), Token.revoked_at.is_(None)
    row = await tx.first(update(Token).where(*valid).values(revoked_at=func.now()).returning(*_SHOWN))
    if row is None:
        return await get(tx, account_id, token_id)
    await _record(tx, "token.revoke", row, before=_facts(row))
    return row


async def revoke_all(tx: Transaction, account_id: str) -> int:
    """How many there were. What is recorded is why: whoever does this says so."""
    valid = Token.account_id == account_id, Token.revoked_at.is_(None)
    return (await tx.execute(update(Token).where(*valid).values(revoked_at=func.now()))).rowcount


async def _record(tx: Transaction, action: str, row: Row, **changed: dict[str, Any]) -> None:
    await audit.record(tx, action, f"token:{row.id}", account_id=row.account_id, **changed)


def _facts(row: Row) -> dict[str, Any]:
    return {"name": row.name, "prefix": row.prefix, "scopes": row.scopes, "expires_at": row.expires_at}


def _of(account_id: str, token_id: str) -> tuple[ColumnElement[bool], ...]:
    return Token.id == token_id, Token.account_id == account_id


def _found(row: Row | None) -> Row:
    if row is None:
        raise NotFound("The requested token could not be found.")
    return row


_LASTS = or_(Token.expires_at.is_(None), Token.expires_at > func.now())
_VALID = (Token.revoked_at.is_(None), _LASTS, Account.deleted_at.is_(None))


_THIS_MINUTE = func.date_trunc("minute", func.now())
_UNTOUCHED = or_(Token.last_used_at.is_(None), Token.last_used_at < _THIS_MINUTE)


async def caller(tx: Transaction, token: str) -> Row | None:
    """The account a valid token speaks for, with `token_id`, `token_name`, `token_prefix`, `scopes` and `expires_at` of
    the token, and whether it is `untouched`: its use in this minute is not on record yet."""
    named = (Token.id.label("token_id"), Token.name.label("token_name"), Token.prefix.label("token_prefix"))
    of_token = (*named, Token.scopes, Token.expires_at, _UNTOUCHED.label("untouched"))
    return await tx.first(
        select(*Account.__table__.c, *of_token, Wallet.credit_limit_nanos)
        .join(Token, Token.account_id == Account.id)
        .join(Wallet, Wallet.account_id == Account.id)
        .where(Token.token_hash == hash_token(token), *_VALID)
    )


async def touch(tx: Transaction, token_id: str) -> None:
    """Puts on record that it is in use, to the minute; once a minute is enough, or every request would write."""
    await tx.execute(update(Token).where(Token.id == token_id, _UNTOUCHED).values(last_used_at=_THIS_MINUTE))
