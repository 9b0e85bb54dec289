"""Join tokens: how one is written, and their rows. The secret's hash alone is kept.

A token says where the gateway is, by which fingerprint its authority is known, and what lets the machine in. So a
machine that has one trusts nobody else, not even the first time.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Self

from sqlalchemy import Row, func, insert, select, update

from core.database import Transaction, seconds_from_now
from core.errors import Forbidden, NotFound
from core.ids import new_id, new_secret
from core.people import audit
from core.tables import JoinToken

_PREFIX = "mr_join_"
_FORM = re.compile(_PREFIX + r"([0-9a-f]{40})_([0-9a-f]{64})_(\S+:\d{1,5})")


@dataclass(frozen=True, slots=True)
class JoinSecret:
    """What a join token says, for whoever holds it."""

    secret: str
    fingerprint: str
    address: str

    def __str__(self) -> str:
        return f"{_PREFIX}{self.secret}_{self.fingerprint}_{self.address}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `ValueError` with a sentence."""
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise ValueError(
                f"This is no join token: one begins with {_PREFIX} and ends with the host and port of a gateway; "
                "copy all of what `millrace join-token create` printed."
            )
        return cls(*found.groups())


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`; IPv6 stands in brackets. Raises `ValueError` with a sentence."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is no address of a gateway: it is written host:port.")
    return host.strip("[]"), int(port)


def hash_secret(secret: str) -> bytes:
    # 160 bits of chance: nobody finds them by trying, however fast the hash is.
    return hashlib.sha256(secret.encode()).digest()


async def create(
    tx: Transaction, name: str, lifetime_seconds: float, max_uses: int, fingerprint: str, address: str
) -> JoinSecret:
    """What it says, which nobody can see again."""
    secret = JoinSecret(new_secret(), fingerprint, address)
    values = {"id": new_id(), "name": name, "secret_hash": hash_secret(secret.secret), "max_uses": max_uses}
    adding = insert(JoinToken).values(**values, expires_at=seconds_from_now(lifetime_seconds))
    row = await tx.one(adding.returning(JoinToken))
    facts = {"name": name, "max_uses": max_uses, "expires_at": row.expires_at}
    await audit.record(tx, "join_token.create", f"join_token:{row.id}", after=facts)
    return secret


async def list_all(tx: Transaction) -> list[Row]:
    """The newest first, each with whether it `is_expired` by the database's clock."""
    is_expired = (JoinToken.expires_at <= func.now()).label("is_expired")
    return list(await tx.all(select(*JoinToken.__table__.c, is_expired).order_by(JoinToken.created_at.desc())))


async def revoke(tx: Transaction, id: str) -> Row:
    """Nobody joins with it any more; who has joined stays. Raises `NotFound`."""
    row = await tx.first(
        update(JoinToken)
        .where(JoinToken.id == id)
        .values(revoked_at=func.coalesce(JoinToken.revoked_at, func.now()))
        .returning(JoinToken)
    )
    if row is None:
        raise NotFound(f"There is no join token {id}.")
    await audit.record(tx, "join_token.revoke", f"join_token:{id}", before={"name": row.name})
    return row


async def redeem(tx: Transaction, secret: str) -> str:
    """Uses it once more and returns its id. Raises `Forbidden` with why it cannot be used."""
    row = await tx.first(
        select(*JoinToken.__table__.c, (JoinToken.expires_at <= func.now()).label("is_expired"))
        .where(JoinToken.secret_hash == hash_secret(secret))
        .with_for_update()
    )
    if row is None:
        raise Forbidden("This join token is not known here; make one with `millrace join-token create`.")
    if row.revoked_at is not None:
        raise Forbidden("This join token is revoked; make another with `millrace join-token create`.")
    if row.is_expired:
        raise Forbidden("This join token has expired; make another with `millrace join-token create`.")
    if row.uses >= row.max_uses:
        raise Forbidden("This join token has been used up; make another with `millrace join-token create`.")
    await tx.execute(update(JoinToken).where(JoinToken.id == row.id).values(uses=JoinToken.uses + 1))
    return row.id
