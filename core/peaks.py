"""The most GPU memory that Instances, and so their Versions, were seen to use: what sharing a GPU goes by."""

from collections.abc import Mapping

from sqlalchemy import func, or_, select, update

from core.database import Transaction, one_of
from core.tables import Instance, Version


async def note(tx: Transaction, used: Mapping[str, int]) -> None:
    """`used` is by Instance, in bytes on one device, now. What is no new peak changes no row.

    Of a Version it is known once one of its Instances has been at work: as long as it boots it uses less than it will,
    and whoever were put beside it by that would find no memory. 0 is what a driver says that cannot tell.
    """
    for instance_id, size in sorted(used.items()):
        await tx.execute(
            update(Instance)
            .where(Instance.id == instance_id, or_(Instance.peak_bytes.is_(None), Instance.peak_bytes < size))
            .values(peak_bytes=size)
        )
    if used:
        await _note_versions(tx, used)


async def _note_versions(tx: Transaction, used: Mapping[str, int]) -> None:
    highest = (
        select(Instance.version_id, func.max(Instance.peak_bytes).label("bytes"))
        .where(one_of(Instance.id, [*used]), Instance.last_active_at > Instance.ready_at)
        .group_by(Instance.version_id)
        .subquery()
    )
    await tx.execute(
        update(Version)
        .where(Version.id == highest.c.version_id, highest.c.bytes > func.coalesce(Version.peak_bytes, 0))
        .values(peak_bytes=highest.c.bytes)
    )
