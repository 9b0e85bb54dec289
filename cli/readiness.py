"""Watches the models that come along until each can run: `python -m cli.readiness` prints a line of JSON per change.

Ends with 0 when all are ready, with 1 when one failed.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select

from cli.setup import PUBLISHER
from core.database import Transaction
from core.lifecycle import VersionStatus
from core.resources import Resources, open_resources
from core.settings import get_settings
from core.tables import Account, Model, Version

_LOOK_SECONDS = 0.5


async def watch(resources: Resources) -> bool:
    """Whether all became ready."""
    seen: dict[str, str] = {}
    while True:
        async with resources.database.autocommit() as tx:
            rows = await _latest_versions(tx)
        for row in rows:
            if seen.get(row.name) != row.status:
                seen[row.name] = row.status
                _print(row)
        if VersionStatus.PREPARING not in seen.values():
            return VersionStatus.FAILED not in seen.values()
        await asyncio.sleep(_LOOK_SECONDS)


async def _latest_versions(tx: Transaction) -> Sequence[Row[Any]]:
    return await tx.all(
        select(Model.name, Version.status, Version.status_reason)
        .join(Account, Account.id == Model.owner_id)
        .join(Version, Version.id == Model.latest_version_id)
        .where(Account.username == PUBLISHER)
        .order_by(Version.created_at)
    )


def _print(row: Row[Any]) -> None:
    sys.stdout.write(json.dumps({"model": row.name, "status": row.status, "reason": row.status_reason}) + "\n")
    sys.stdout.flush()


async def main() -> int:
    async with open_resources(get_settings()) as resources:
        return 0 if await watch(resources) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
