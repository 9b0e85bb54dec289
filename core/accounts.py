"""Accounts and their tokens."""

import base64
import hashlib
import secrets

from sqlalchemy import Row, func, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert

from core.database import Transaction
from core.errors import NotFound
from core.ids import new_id
from core.tables import Account, Token

_TOKEN_PREFIX = "mr_"
_PREFIX_SHOWN = 8


def new_token() -> str:
    return _TOKEN_PREFIX + secrets.token_hex(20)


def new_webhook_secret() -> str:
    """`whsec_` and 24 bytes in *standard* base64: official clients break on the url-safe alphabet's underscore."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


def hash_token(token: str) -> bytes:
    # Tokens carry 160 bits of chance, so a fast hash is as good as a slow one and costs no request 50 ms.
    return hashlib.sha256(token.encode()).digest()


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


async def add_token(tx: Transaction, account_id: str, token: str, name: str) -> None:
    """Stores the hash of a token; the same token twice is one token."""
    await tx.execute(
        upsert(Token)
        .values(
            id=new_id(),
            account_id=account_id,
            name=name,
            prefix=token[:_PREFIX_SHOWN],
            token_hash=hash_token(token),
        )
        .on_conflict_do_nothing(index_elements=["token_hash"])
    )


async def by_token(tx: Transaction, token: str) -> Row | None:
    """The account a valid token speaks for."""
    return await tx.first(
        select(Account)
        .join(Token, Token.account_id == Account.id)
        .where(
            Token.token_hash == hash_token(token),
            Token.revoked_at.is_(None),
            or_(Token.expires_at.is_(None), Token.expires_at > func.now()),
        )
    )


async def get(tx: Transaction, account_id: str) -> Row:
    return await tx.one(select(Account).where(Account.id == account_id))


async def by_username(tx: Transaction, username: str) -> Row:
    row = await tx.first(select(Account).where(Account.username == username))
    if row is None:
        raise NotFound("The requested account could not be found.")
    return row
