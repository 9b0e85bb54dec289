"""The most GPU memory that Instances, and so their Versions, were seen to use: what sharing a GPU goes by."""

from collections.abc import Mapping

from sqlalchemy import func, or_, update

from core.database import Transaction
from core.tables import Instance, Version


async def note(tx: Transaction, used: Mapping[str, int]) -> None:
    """`used` is by Instance, in bytes on one device, now. What is no new peak changes no row."""
    for instance_id, size in sorted(used.items()):
        row = await tx.first(
            update(Instance)
            .where(Instance.id == instance_id, or_(Instance.peak_bytes.is_(None), Instance.peak_bytes < size))
            .values(peak_bytes=size)
            .returning(Instance.version_id)
        )
        if row is not None:
            await tx.execute(
                update(Version)
                .where(Version.id == row.version_id)
                .values(peak_bytes=func.greatest(func.coalesce(Version.peak_bytes, 0), size))
            )
