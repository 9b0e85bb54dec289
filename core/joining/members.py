"""Machines that have joined: let in under a Node's name, known by their certificate, and expelled."""

import re
from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Row, func, insert, select, update

from core import fleet
from core.database import Transaction, one_of
from core.errors import Conflict, Forbidden, Invalid, NotFound
from core.ids import new_id
from core.joining import tokens
from core.people import audit
from core.tables import JoinToken, Member

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
#: Of the lock under which names are given away, one at a time.
_LOCK = 0x6A6F696E


async def join(tx: Transaction, secret: str, name: str, address: str, certificate_expires_at: datetime) -> Row:
    """Lets a machine in that shows a join token. Raises `Forbidden`, `Invalid` and `Conflict` with why not."""
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name[:80]!r} cannot be the name of a node: give it 1 to 63 letters, digits, dots, hyphens or "
            "underscores as MILLRACE_NODE_NAME, with a letter or digit at both ends."
        )
    token_id = await tokens.redeem(tx, secret)
    await tx.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    await tx.execute(
        update(Member)
        .where(Member.name == name, Member.expelled_at.is_(None), Member.certificate_expires_at <= func.now())
        .values(expelled_at=func.now())
    )
    if await tx.first(select(Member.id).where(Member.name == name, Member.expelled_at.is_(None))):
        raise Conflict(
            f"A node named {name} has joined already. Give this one another MILLRACE_NODE_NAME; "
            f"or, if it is the same machine, let go of what it was with `millrace expel {name}`."
        )
    if await fleet.holder_alive(tx, name):
        raise Conflict(f"A node named {name} is up already. Give this one another MILLRACE_NODE_NAME.")
    values = {"id": new_id(), "name": name, "join_token_id": token_id, "address": address}
    adding = insert(Member).values(**values, certificate_expires_at=certificate_expires_at)
    row = await tx.one(adding.returning(Member))
    await audit.record(tx, "node.join", f"node:{name}", after={"address": address, "join_token_id": token_id})
    return row


async def admit(tx: Transaction, id: str) -> Row:
    """Whoever shows a certificate of that id. Raises `Forbidden`."""
    row = await tx.first(select(Member).where(Member.id == id))
    if row is None:
        raise Forbidden("This node has never joined this installation; join with a new token.")
    if row.expelled_at is not None:
        raise Forbidden(f"The node {row.name} has been expelled; to be let in again it needs a new join token.")
    return row


async def renew(tx: Transaction, id: str, certificate_expires_at: datetime) -> None:
    """It has been given another certificate."""
    await tx.execute(update(Member).where(Member.id == id).values(certificate_expires_at=certificate_expires_at))


async def expel(tx: Transaction, name: str) -> Row:
    """Within two seconds it has no connection left, and gets none. Raises `NotFound`."""
    row = await tx.first(
        update(Member)
        .where(Member.name == name, Member.expelled_at.is_(None))
        .values(expelled_at=func.now())
        .returning(Member)
    )
    if row is None:
        raise NotFound(f"No node named {name} has joined.")
    await audit.record(tx, "node.expel", f"node:{name}", before={"address": row.address, "joined_at": row.joined_at})
    return row


async def expelled(tx: Transaction, ids: Collection[str]) -> set[str]:
    """Which of these are to be cut."""
    rows = await tx.all(select(Member.id).where(one_of(Member.id, ids), Member.expelled_at.is_not(None)))
    return {row.id for row in rows}


async def list_all(tx: Transaction) -> list[Row]:
    """Who is let in, by name, each with the name of its `token`."""
    statement = select(*Member.__table__.c, JoinToken.name.label("token")).join(
        JoinToken, JoinToken.id == Member.join_token_id
    )
    return list(await tx.all(statement.where(Member.expelled_at.is_(None)).order_by(Member.name)))
