"""Many predictions at once, as if they had been made a second apart."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert

from core.hardware import CPU
from core.ids import new_id
from core.resources import Resources
from core.tables import Prediction
from tests.api.scene import Caller, Published

_FIRST = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


async def insert_predictions(
    resources: Resources, caller: Caller, published: Published, count: int, **fields: Any
) -> list[str]:
    """Their ids, oldest first. They have ended, so that nothing looks for them."""
    common = {
        "account_id": caller.id,
        "model": published.model,
        "version_id": published.version,
        "target": published.target,
        "hardware_sku": CPU.sku,
        "input": {},
        "status": "canceled",
        **fields,
    }
    moments = [_FIRST + timedelta(seconds=number) for number in range(count)]
    rows = [{"id": new_id(), "created_at": moment, "completed_at": moment, **common} for moment in moments]
    async with resources.database.transaction() as tx:
        await tx.execute(insert(Prediction), rows)
    return [row["id"] for row in rows]
