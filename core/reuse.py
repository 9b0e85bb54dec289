"""Results used again: an equal request gets the result of an earlier one instead of running, and pays nothing.

Only where the Version's owner says that equal inputs give equal outputs, the request asks for it, and the earlier
prediction was the same account's: nothing of one account is readable by another.
"""

import hashlib
from typing import Any

import orjson
from sqlalchemy import Row, func, literal, select
from sqlalchemy.dialects.postgresql import insert as upsert

from core import webhooks
from core.database import Transaction
from core.endings import TABLE
from core.lifecycle import PredictionStatus, WebhookEvent
from core.predictions import Request, values_of
from core.redis import DELIVERY_BELL, ring

#: What a result is. Nothing ran, so the model's own metrics and times are not this prediction's.
_RESULT = ("output", "logs")


def cache_key(version_id: str, input: dict[str, Any]) -> bytes:
    """The address of a result: whatever gives the same key gives the same result."""
    return hashlib.sha256(version_id.encode() + orjson.dumps(input, option=orjson.OPT_SORT_KEYS)).digest()


async def create(tx: Transaction, request: Request) -> Row | None:
    """The prediction, already succeeded, with the latest result for its `cache_key`; None: there is none to use."""
    earlier = TABLE.alias("earlier")
    moment = func.clock_timestamp()
    # It ends as it begins, and after its end nobody needs its secrets.
    secrets = dict.fromkeys(set(request.secret_inputs or ()) & request.input.keys())
    values = values_of(request) | {"status": PredictionStatus.SUCCEEDED.value, "metrics": {"predict_time": 0.0}}
    values["input"] = request.input | secrets
    columns = {name: literal(value, TABLE.c[name].type) for name, value in values.items()}
    columns |= {"created_at": moment, "started_at": moment, "completed_at": moment, "cached_from": earlier.c.id}
    columns |= {name: earlier.c[name] for name in _RESULT}
    found = (
        select(*columns.values())
        .where(
            earlier.c.account_id == request.account_id,
            earlier.c.cache_key == request.cache_key,
            earlier.c.status == PredictionStatus.SUCCEEDED.value,
            earlier.c.cached_from.is_(None),
            ~earlier.c.data_removed,
        )
        .order_by(earlier.c.completed_at.desc())
        .limit(1)
        # Or its data might be removed in the meantime, and with it files that are now this one's as well.
        .with_for_update(read=True, of=earlier)
    )
    ended = (
        upsert(TABLE)
        .from_select(list(columns), found)
        .on_conflict_do_nothing(index_elements=["id"])
        .returning(*TABLE.c)
        .cte("ended")
    )
    row = await tx.first(select(*ended.c).add_cte(webhooks.owed(ended).cte("owed")))
    if row is not None and webhooks.wants(row, WebhookEvent.COMPLETED):
        tx.after_commit(ring, DELIVERY_BELL)
    return row
