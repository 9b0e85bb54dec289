"""What befell predictions, Instances, Nodes and targets, and why: written with the change itself, told in order.

A prediction's own path writes none: its row tells when it was created, started and ended.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, delete, func, insert, select

from core.database import Transaction, one_of, seconds_from_now
from core.tables import Event

SCHEDULER = "scheduler"

#: So many of one subject are told; of what goes on and on, the newest.
_TOLD = 200


def prediction(id: str) -> str:
    return f"prediction:{id}"


def instance(id: str) -> str:
    return f"instance:{id}"


def node(name: str) -> str:
    return f"node:{name}"


def target(name: str) -> str:
    return f"target:{name}"


def event(
    subject: str,
    actor: str,
    *,
    was: str | None = None,
    becomes: str | None = None,
    reason: str | None = None,
    at: datetime | None = None,
) -> dict[str, Any]:
    """`subject` is one of the above. `at`: when it was, where that is not now."""
    row = {"subject": subject, "actor": actor, "was": was, "becomes": becomes, "reason": reason}
    return {**row, "at": func.now() if at is None else at}


async def record(tx: Transaction, subject: str, actor: str, **said: Any) -> None:
    """As `event`. In the transaction of what it tells of, or it may tell what never was."""
    await record_all(tx, event(subject, actor, **said))


async def record_all(tx: Transaction, *events: dict[str, Any]) -> None:
    """In the order in which they are told, in one statement."""
    if events:
        await tx.execute(insert(Event).values(events))


async def of(
    tx: Transaction, *subjects: str, since: datetime | None = None, until: datetime | None = None
) -> list[Row]:
    """Theirs, the oldest first; of very many, the newest."""
    chosen = [one_of(Event.subject, [*subjects])]
    chosen += [Event.at >= since] if since else []
    chosen += [Event.at <= until] if until else []
    newest = await tx.all(select(Event).where(and_(*chosen)).order_by(Event.id.desc()).limit(_TOLD))
    return [*reversed(newest)]


async def states(tx: Transaction, subjects: Sequence[str]) -> dict[str, str]:
    """The state that each was last told to have entered; those of which none was told are not named."""
    moved = and_(one_of(Event.subject, subjects), Event.becomes.is_not(None))
    last = select(func.max(Event.id)).where(moved).group_by(Event.subject)
    return {row.subject: row.becomes for row in await tx.all(select(Event).where(Event.id.in_(last)))}


async def forget(tx: Transaction, seconds: float, limit: int) -> int:
    """Removes the oldest of those that are older than that; returns how many."""
    old = select(Event.id).where(Event.at < seconds_from_now(-seconds)).order_by(Event.at).limit(limit)
    return (await tx.execute(delete(Event).where(Event.id.in_(old)))).rowcount
