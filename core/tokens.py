"""Tokens: what they may do, whom they speak for. Only their hashes are kept."""

import hashlib
import secrets
from collections.abc import Collection
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Row, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from core.database import Transaction
from core.ids import new_id
from core.tables import Account, Token

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


async def add(
    tx: Transaction,
    account_id: str,
    token: str,
    name: str,
    scopes: Collection[Scope] = EVERY_SCOPE,
    expires_at: datetime | None = None,
) -> None:
    """Stores the hash of a token; the same token twice is one token."""
    await tx.execute(
        upsert(Token)
        .values(
            id=new_id(),
            account_id=account_id,
            name=name,
            prefix=token[:_PREFIX_SHOWN],
            token_hash=hash_token(token),
            scopes=[scope.value for scope in scopes],
            expires_at=expires_at,
        )
        .on_conflict_do_nothing(index_elements=["token_hash"])
    )


_VALID = (Token.revoked_at.is_(None), or_(Token.expires_at.is_(None), Token.expires_at > func.now()))


async def caller(tx: Transaction, token: str) -> Row | None:
    """The account a valid token speaks for, with `token_id`, `scopes` and `expires_at` of the token."""
    return await tx.first(
        select(*Account.__table__.c, Token.id.label("token_id"), Token.scopes, Token.expires_at)
        .join(Token, Token.account_id == Account.id)
        .where(Token.token_hash == hash_token(token), *_VALID)
    )


async def touch(tx: Transaction, token_id: str) -> None:
    """Puts on record that it is in use; once a minute is enough, or every request would write."""
    minute_ago = func.now() - func.make_interval(0, 0, 0, 0, 0, 1)
    await tx.execute(
        update(Token)
        .where(Token.id == token_id, or_(Token.last_used_at.is_(None), Token.last_used_at < minute_ago))
        .values(last_used_at=func.now())
    )
