"""Idempotency keys: a key stands for one request, and for the id of what that request makes.

The id is chosen before anything is made. So a request that comes again while the first is still being answered, or
after the process that answered it died, makes the same thing or finds it; it never makes a second one.
"""

from sqlalchemy import ColumnElement, Row, delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert

from core.database import Transaction, seconds_from_now
from core.tables import IdempotencyKey

_KEY = (IdempotencyKey.account_id, IdempotencyKey.key)


async def claim(
    tx: Transaction, account_id: str, key: str, request_hash: bytes, resource_id: str, lifetime_seconds: float
) -> Row:
    """What the key stands for: this request from now on, unless it was used before and is remembered."""
    fresh = {
        "request_hash": request_hash,
        "resource_id": resource_id,
        "status": None,
        "content_type": None,
        "answer": None,
        "created_at": func.now(),
        "expires_at": seconds_from_now(lifetime_seconds),
    }
    claiming = (
        upsert(IdempotencyKey)
        .values(account_id=account_id, key=key, **fresh)
        .on_conflict_do_update(
            index_elements=["account_id", "key"], set_=fresh, where=IdempotencyKey.expires_at < func.now()
        )
        .returning(IdempotencyKey)
    )
    standing = select(IdempotencyKey).where(IdempotencyKey.account_id == account_id, IdempotencyKey.key == key)
    while True:
        # Between the two questions the key may be released: then it is free to be claimed.
        row = await tx.first(claiming) or await tx.first(standing)
        if row is not None:
            return row


async def answer(tx: Transaction, claimed: Row, status: int, content_type: str, body: bytes | None) -> None:
    """Keeps what was answered, where the claim still stands."""
    answered = {"status": status, "content_type": content_type, "answer": body}
    await tx.execute(update(IdempotencyKey).where(*_is(claimed)).values(**answered))


async def release(tx: Transaction, claimed: Row) -> None:
    """The request is wrong and can make nothing: the key may be used for another one."""
    await tx.execute(delete(IdempotencyKey).where(*_is(claimed), IdempotencyKey.status.is_(None)))


def _is(claimed: Row) -> tuple[ColumnElement[bool], ...]:
    """That very claim: since then the key may have been released and claimed anew."""
    return (
        IdempotencyKey.account_id == claimed.account_id,
        IdempotencyKey.key == claimed.key,
        IdempotencyKey.resource_id == claimed.resource_id,
    )


async def forget_answers(tx: Transaction, resource_ids: list[str]) -> None:
    """Removes what was answered about these; their keys go on standing for them."""
    await tx.execute(update(IdempotencyKey).where(IdempotencyKey.resource_id.in_(resource_ids)).values(answer=None))


async def forget_expired(tx: Transaction, limit: int) -> int:
    """At most so many; how many it were."""
    has_expired = IdempotencyKey.expires_at < func.now()
    some = select(*_KEY).where(has_expired).limit(limit)
    # Said twice: in between, a key may be claimed anew.
    forgotten = await tx.execute(delete(IdempotencyKey).where(tuple_(*_KEY).in_(some), has_expired))
    return forgotten.rowcount
