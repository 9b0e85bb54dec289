"""Removes what is not kept: data past its retention, expired files and keys, and what deleted Versions left behind.

Small batches, each in its own transaction, take turns for a moment of each pass; the next one goes on. Bytes are
deleted between transactions, and their row after them: a crash in between leaves a row that the next pass finds again.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

from core import accounts, files, idempotency, retention
from core.clock import monotonic
from core.database import Transaction
from core.log import get_logger
from core.resources import Resources
from core.settings import Settings
from scheduler.sweeps.base import Context, Sweep

INTERVAL_SECONDS = 2.0
#: The other sweeps wait meanwhile: after this no further turn begins.
PASS_SECONDS = 0.25
_ROWS = 200
#: Each takes four statements.
_CANCELS = 25
#: Deleted at the same time.
_FILES = 50
_VERSIONS = 10

log = get_logger()

Verb = Callable[[Transaction], Awaitable[int]]
Batch = Callable[[], Awaitable[int]]
"""How many it took; 0: none are left."""


async def run(context: Context) -> None:
    resources = context.resources
    async with resources.database.autocommit() as tx:
        versions = [row.id for row in await retention.deleted_versions(tx, _VERSIONS)]
    verbs = [*_expired(resources.settings), *(verb for id in versions for verb in _left_behind(id))]
    batches = [(name, partial(_in_transaction, resources, verb)) for name, verb in verbs]
    taken = await _take_turns([*batches, ("files", partial(_delete_files, resources))])
    if taken:
        log.info("purged", **taken)


def _expired(settings: Settings) -> list[tuple[str, Verb]]:
    kept = {"api": settings.retention_api_seconds, "web": settings.retention_web_seconds}
    removals = [
        ("data", partial(retention.remove_expired, source=source, seconds=seconds, limit=_ROWS))
        for source, seconds in kept.items()
        if seconds
    ]
    return [
        *removals,
        ("idempotency_keys", partial(idempotency.forget_expired, limit=_ROWS)),
        ("webhook_secrets", accounts.forget_expired_secrets),
    ]


def _left_behind(version_id: str) -> list[tuple[str, Verb]]:
    return [
        ("canceled", partial(retention.cancel_of_version, version_id=version_id, limit=_CANCELS)),
        ("unwanted", partial(retention.unwant_of_version, version_id=version_id, limit=_CANCELS)),
        ("data", partial(retention.remove_of_version, version_id=version_id, limit=_ROWS)),
        ("predictions", partial(retention.delete_predictions, version_id=version_id, limit=_ROWS)),
        ("instances", partial(retention.delete_instances, version_id=version_id, limit=_ROWS)),
        ("versions", partial(retention.delete_version, version_id=version_id)),
    ]


async def _take_turns(batches: list[tuple[str, Batch]]) -> Counter[str]:
    """Each at least once, and as long as it finds something and there is time."""
    taken: Counter[str] = Counter()
    ends_at = monotonic() + PASS_SECONDS
    while batches:
        found = []
        for name, batch in batches:
            if count := await batch():
                taken[name] += count
                found.append((name, batch))
        batches = found if monotonic() < ends_at else []
    return taken


async def _in_transaction(resources: Resources, verb: Verb) -> int:
    async with resources.database.transaction() as tx:
        return await verb(tx)


async def _delete_files(resources: Resources) -> int:
    async with resources.database.autocommit() as tx:
        expired = await files.expired(tx, _FILES)
    if not expired:
        return 0
    gone = await files.discard(resources.files, expired)
    async with resources.database.transaction() as tx:
        await files.settle(tx, expired, gone)
    return len(gone)


SWEEP = Sweep("purge", INTERVAL_SECONDS, run)
