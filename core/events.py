"""What befell predictions, Instances, Nodes and targets, and why: written with the change itself, told in order.

A prediction's own path writes none: its row tells when it was created, started and ended.
"""

from collections.abc import Sequence

from sqlalchemy import Row, insert, select

from core.database import Transaction, one_of
from core.tables import Event

SCHEDULER = "scheduler"


def prediction(id: str) -> str:
    return f"prediction:{id}"


def instance(id: str) -> str:
    return f"instance:{id}"


def node(name: str) -> str:
    return f"node:{name}"


def target(name: str) -> str:
    return f"target:{name}"


async def record(
    tx: Transaction,
    subject: str,
    actor: str,
    *,
    was: str | None = None,
    becomes: str | None = None,
    reason: str | None = None,
) -> None:
    """`subject` is one of the above. In the transaction of what it tells of, or it may tell what never was."""
    await tx.execute(insert(Event).values(subject=subject, actor=actor, was=was, becomes=becomes, reason=reason))


async def of(tx: Transaction, *subjects: str) -> Sequence[Row]:
    """All of theirs, the oldest first."""
    return await tx.all(select(Event).where(one_of(Event.subject, [*subjects])).order_by(Event.id))
