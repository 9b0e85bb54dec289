"""Containers of a Version that keep dying: before they are ready, or as soon as they are. What a crash loop is made of.

Says what has been; how long to wait, and when to give up, is the scheduler's.
"""

from collections.abc import Collection, Sequence
from datetime import timedelta

from sqlalchemy import Row, and_, func, or_, select

from core.database import Transaction, one_of, seconds_from_now
from core.lifecycle import InstanceStatus, NodeFault
from core.tables import Instance

#: An Instance that lives no longer than this has not worked, whatever it said of itself.
AT_ONCE_SECONDS = 10.0
#: No boot takes longer: older Instances need not be looked at.
_LONGEST_BOOT_SECONDS = 24 * 3600.0
_UNEXPLAINED = "It does not say why."

_HAS_STAYED = or_(
    Instance.ended_at.is_(None),
    Instance.status == InstanceStatus.STOPPED,
    Instance.ended_at - Instance.ready_at >= timedelta(seconds=AT_ONCE_SECONDS),
)


async def of(tx: Transaction, version_ids: Collection[str], seconds: float) -> Sequence[Row]:
    """Instances of these Versions that died within that time, since one on the same Hardware last stayed; the newest
    first.

    `has_worked`: it was at work when it died, so that what it was given may be to blame. A node that dies, or is
    stopped, says nothing of a Version, nor does an Instance that was to go. What is too large for one Hardware may fit
    on another, which somebody else may have chosen.
    """
    chosen = one_of(Instance.version_id, version_ids)
    stayed = (
        select(Instance.version_id, Instance.hardware_sku, func.max(Instance.ready_at).label("ready_at"))
        .where(chosen, Instance.ready_at.is_not(None), _HAS_STAYED, Instance.created_at > seconds_from_now(-seconds))
        .group_by(Instance.version_id, Instance.hardware_sku)
        .subquery()
    )
    reason = func.coalesce(Instance.reason, _UNEXPLAINED)
    died_at_once = or_(Instance.ready_at.is_(None), and_(Instance.ready_at.is_not(None), ~_HAS_STAYED))
    return await tx.all(
        select(
            Instance.id,
            Instance.version_id,
            Instance.hardware_sku,
            Instance.node_id,
            Instance.gpu_uuids,
            reason.label("reason"),
            func.coalesce(Instance.last_active_at > Instance.ready_at, False).label("has_worked"),
            func.extract("epoch", func.now() - Instance.ended_at).label("seconds_ago"),
        )
        .outerjoin(
            stayed,
            and_(stayed.c.version_id == Instance.version_id, stayed.c.hardware_sku == Instance.hardware_sku),
        )
        .where(
            chosen,
            Instance.status == InstanceStatus.FAILED,
            Instance.is_wanted,
            reason.not_in(list(NodeFault)),
            Instance.ended_at > seconds_from_now(-seconds),
            Instance.created_at > seconds_from_now(-seconds - _LONGEST_BOOT_SECONDS),
            died_at_once,
            or_(stayed.c.ready_at.is_(None), Instance.ended_at > stayed.c.ready_at),
        )
        .order_by(Instance.ended_at.desc())
    )
