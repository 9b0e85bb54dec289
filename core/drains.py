"""Instances that are to leave because their Node is being emptied."""

from collections.abc import Sequence

from sqlalchemy import Row, func, or_, select

from core.database import Transaction, seconds_from_now
from core.lifecycle import LIVE_INSTANCE
from core.tables import Instance, Node

#: Two moments that differ by less are the same one.
_SAME_SECONDS = 1.0


async def due(tx: Transaction) -> Sequence[Row]:
    """Those that nobody has told so, or told a later moment, with the seconds that what they run has left."""
    later = Node.drain_deadline_at + (seconds_from_now(_SAME_SECONDS) - func.now())
    untold = or_(Instance.is_wanted, Instance.drain_deadline_at.is_(None), Instance.drain_deadline_at > later)
    seconds = func.extract("epoch", Node.drain_deadline_at - func.now())
    return await tx.all(
        select(Instance.id, Node.name.label("node"), func.greatest(0.0, seconds).label("seconds"))
        .join(Node, Node.id == Instance.node_id)
        .where(Instance.status.in_(LIVE_INSTANCE), Node.drain_deadline_at.is_not(None), untold)
    )
