"""Removes what is not kept: data past its retention, expired files and keys, old events, and what deleted Versions left
behind.

Small batches, each in its own transaction, take turns for a moment of each pass; the next one goes on where it ended.
Bytes are deleted between transactions, and their row after them: a crash in between leaves a row that the next pass
finds again.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from cachetools import LRUCache

from core import boots, events, files, idempotency, retention
from core.clock import monotonic
from core.log import get_logger
from core.people import accounts, closing
from core.resources import Resources
from core.retention import Walk
from core.settings import Settings
from scheduler.sweeps.base import Context, Sweep

INTERVAL_SECONDS = 2.0
#: The other sweeps wait meanwhile: after this no further turn begins.
PASS_SECONDS = 0.25
_ROWS = 200
#: What befell a node or a run, and what a boot printed, is asked about for weeks, not for years.
EVENTS_SECONDS = 30 * 24 * 3600.0
#: Each takes four statements.
_CANCELS = 25
#: Deleted at the same time.
_FILES = 50
_VERSIONS = 10

log = get_logger()

Take = Callable[..., Awaitable[int]]


class Batch(NamedTuple):
    """`take` says how many it took; none are left once that is 0, and its walk, if it has one, begins anew."""

    name: str
    take: Take
    walk: Walk | None = None


# How far each has come, between passes. Of a Version that is gone nobody asks any more.
_walks: LRUCache[tuple[str, str], Walk] = LRUCache(1000)


async def run(context: Context) -> None:
    resources = context.resources
    async with resources.database.autocommit() as tx:
        versions = [row.id for row in await retention.deleted_versions(tx, _VERSIONS)]
    verbs = [*_expired(resources.settings), *(verb for id in versions for verb in _left_behind(id))]
    batches = [batch._replace(take=partial(_in_transaction, resources, batch.take)) for batch in verbs]
    taken = await _take_turns([*batches, Batch("files", partial(_delete_files, resources))])
    if taken:
        log.info("purged", **taken)


def _expired(settings: Settings) -> list[Batch]:
    kept = {"api": settings.retention_api_seconds, "web": settings.retention_web_seconds}
    removals = [
        _walking("data", source, partial(retention.remove_expired, source=source, seconds=seconds, limit=_ROWS))
        for source, seconds in kept.items()
        if seconds
    ]
    return [
        *removals,
        Batch("idempotency_keys", partial(idempotency.forget_expired, limit=_ROWS)),
        Batch("webhook_secrets", accounts.forget_expired_secrets),
        Batch("closed_accounts", closing.cancel_left),
        Batch("events", partial(events.forget, seconds=EVENTS_SECONDS, limit=_ROWS)),
        Batch("setup_logs", partial(boots.forget_logs, seconds=EVENTS_SECONDS, limit=_ROWS)),
    ]


def _left_behind(id: str) -> list[Batch]:
    remove = partial(retention.remove_of_version, version_id=id, limit=_ROWS)
    forget = partial(retention.delete_predictions, version_id=id, limit=_ROWS)
    return [
        Batch("canceled", partial(retention.cancel_of_version, version_id=id, limit=_CANCELS)),
        Batch("unwanted", partial(retention.unwant_of_version, version_id=id, limit=_CANCELS)),
        _walking("data", id, remove),
        _walking("predictions", id, forget),
        Batch("instances", partial(retention.delete_instances, version_id=id, limit=_ROWS)),
        Batch("versions", partial(retention.delete_version, version_id=id)),
    ]


def _walking(name: str, whose: str, take: Take) -> Batch:
    walk = _walks.setdefault((name, whose), Walk())
    return Batch(name, partial(take, walk=walk), walk)


async def _take_turns(batches: list[Batch]) -> Counter[str]:
    """Each at least once, and as long as it finds something, or has not looked at all, and there is time."""
    taken: Counter[str] = Counter()
    ends_at = monotonic() + PASS_SECONDS
    while batches:
        left = []
        for batch in batches:
            count = await batch.take()
            taken[batch.name] += count
            if count or (batch.walk and batch.walk.last):
                left.append(batch)
        batches = left if monotonic() < ends_at else []
    # Those that took something.
    return +taken


async def _in_transaction(resources: Resources, verb: Take) -> int:
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
