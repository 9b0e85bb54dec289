"""Sessions: browsers that have logged in. Whoever holds the secret is the person; only its hash is kept.

One ends by itself two weeks after it was last used, and with its login or its account.
"""

import hashlib
import secrets
from collections.abc import Sequence

from sqlalchemy import Row, delete, func, insert, select, update

from core.database import Transaction, seconds_from_now
from core.tables import Account, Login, Session

LIFETIME_SECONDS = 14 * 24 * 3600
#: Sliding by less would write at every page.
_STEP_SECONDS = 3600
_SECRET_BYTES = 32
_LONGEST_AGENT = 400


def session_id(secret: str) -> bytes:
    # 256 bits of chance: a fast hash is as good as a slow one.
    return hashlib.sha256(secret.encode()).digest()


async def start(tx: Transaction, login_id: str, address: str, user_agent: str) -> str:
    """The secret of a new session, which nobody can see again."""
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    await tx.execute(delete(Session).where(Session.login_id == login_id, Session.expires_at <= func.now()))
    await tx.execute(
        insert(Session).values(
            id=session_id(secret),
            login_id=login_id,
            address=address,
            user_agent=user_agent[:_LONGEST_AGENT],
            expires_at=seconds_from_now(LIFETIME_SECONDS),
        )
    )
    await tx.execute(update(Login).where(Login.id == login_id).values(last_seen_at=func.now()))
    return secret


_ACTIVE = (Session.expires_at > func.now(), Login.disabled_at.is_(None), Account.deleted_at.is_(None))
_IS_STALE = Session.expires_at < seconds_from_now(LIFETIME_SECONDS - _STEP_SECONDS)


async def find(tx: Transaction, secret: str) -> Row | None:
    """The Account, with `login_id`, `email` and `session_id`; `is_stale` where its end is to be put off."""
    of_login = (Login.id.label("login_id"), Login.email, Session.id.label("session_id"), _IS_STALE.label("is_stale"))
    return await tx.first(
        select(*Account.__table__.c, *of_login)
        .join(Login, Login.account_id == Account.id)
        .join(Session, Session.login_id == Login.id)
        .where(Session.id == session_id(secret), *_ACTIVE)
    )


async def prolong(tx: Transaction, id: bytes) -> None:
    """As if it had started now; its person has been seen."""
    prolonging = update(Session).where(Session.id == id).values(expires_at=seconds_from_now(LIFETIME_SECONDS))
    login_id = await tx.scalar(prolonging.returning(Session.login_id))
    await tx.execute(update(Login).where(Login.id == login_id).values(last_seen_at=func.now()))


async def list_all(tx: Transaction, login_id: str) -> Sequence[Row]:
    """Those that are open, newest first."""
    listing = select(Session).where(Session.login_id == login_id, Session.expires_at > func.now())
    return await tx.all(listing.order_by(Session.created_at.desc(), Session.id))


async def end(tx: Transaction, id: bytes) -> None:
    await tx.execute(delete(Session).where(Session.id == id))


async def end_all(tx: Transaction, login_id: str) -> int:
    """How many there were."""
    return (await tx.execute(delete(Session).where(Session.login_id == login_id))).rowcount
