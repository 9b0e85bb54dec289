"""What happened to one prediction, when, by whom and why: told from its row, from its events and those of its target,
and from the boots that it waited for.

Its owner is told what concerns this run: no names of machines, and of a container that others use, too, not why it was
let go. An admin of the server is told everything. Changes nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby

from sqlalchemy import Row, and_, func, or_, select

from core import events
from core.clock import now
from core.database import Transaction
from core.lifecycle import FailureCode, InstanceStatus, PredictionStatus
from core.money.pricing import MICROS_PER_SECOND
from core.tables import Account, Instance, Node, Token

#: Boots that are told; where more containers than that come up at once, one like another.
_BOOTS = 6
#: No boot takes longer: how far back those are looked for that were under way when it was created.
_LONGEST_BOOT = timedelta(days=1)
_TOLD = 200
_ERROR_CHARACTERS = 300

S = PredictionStatus
_PREDICTION, _QUEUE = "prediction", "queue"
_NODE = "node:"
#: Of a container's states, those that whoever waits for it waits for.
_BOOTING = (InstanceStatus.PENDING, InstanceStatus.STARTING, InstanceStatus.READY, InstanceStatus.FAILED)


@dataclass(frozen=True, slots=True)
class Entry:
    """`subject` is `prediction`, `queue` (all that wait with it) or `instance:<id>`; its `was` and `becomes` are states
    of that. None: it stayed in the one it had."""

    at: datetime
    subject: str
    actor: str
    was: str | None
    becomes: str | None
    reason: str | None


async def of(tx: Transaction, row: Row, *, sees_all: bool = False) -> list[Entry]:
    """Oldest first; of very many, the newest."""
    own = await events.of(tx, events.prediction(row.id))
    asked = await _asked(tx, row)
    entries = [*asked, *_told(own, _PREDICTION), *await _ran(tx, row, own, asked[0].actor)]
    entries += await _queued(tx, row)
    entries += await _boots(tx, row, sees_all)
    ordered = sorted(entries, key=lambda entry: entry.at)
    return [entry if sees_all else replace(entry, actor=_role(entry.actor)) for entry in ordered[-_TOLD:]]


def _role(actor: str) -> str:
    return "node" if actor.startswith(_NODE) else actor


def _told(rows: Iterable[Row], subject: str) -> list[Entry]:
    return [Entry(row.at, subject, row.actor, row.was, row.becomes, row.reason) for row in rows]


# --- what its row tells -----------------------------------------------------------------------------------------------


async def _asked(tx: Transaction, row: Row) -> list[Entry]:
    token = select(Token.name).where(Token.id == row.token_id).scalar_subquery().label("token")
    account = await tx.one(select(Account.username, token).where(Account.id == row.account_id))
    actor = f"account:{account.username}"
    how = "on a page" if row.source == "web" else "over the API"
    how += f" with the token {account.token!r}" if account.token else ""
    how += f", as {row.deployment}" if row.deployment else ""
    how += ", at low priority" if row.priority == "low" else ""
    asked = [Entry(row.created_at, _PREDICTION, actor, None, S.STARTING, f"Created {how}.")]
    if row.cancel_requested_at is not None and row.started_at is not None:
        asked.append(Entry(row.cancel_requested_at, _PREDICTION, actor, None, None, "Asked to be canceled."))
    return asked


async def _ran(tx: Transaction, row: Row, told: Sequence[Row], account: str) -> list[Entry]:
    """Its last attempt, and its end, unless an event has told of that."""
    entries = []
    by = account if row.status == S.CANCELED or row.cached_from else events.SCHEDULER
    ran = row.started_at is not None and row.instance_id is not None
    if ran:
        by = await _node_of(tx, row.instance_id)
        reason = f"Attempt {row.attempt}, on instance {row.instance_id}. {_waited(row)}"
        entries.append(Entry(row.started_at, _PREDICTION, by, S.STARTING, S.PROCESSING, reason))
    if row.completed_at is not None and not (told and told[-1].becomes == row.status):
        before = S.PROCESSING if ran else S.STARTING
        entries.append(Entry(row.completed_at, _PREDICTION, by, before, row.status, _end(row)))
    return entries


async def _node_of(tx: Transaction, instance_id: str) -> str:
    named = select(Node.name).join(Instance, Instance.node_id == Node.id)
    name = await tx.scalar(named.where(Instance.id == instance_id))
    return events.node(name or "")


def _waited(row: Row) -> str:
    phases = {
        "pull": row.pull_seconds,
        "create": row.create_seconds,
        "boot": row.boot_seconds,
        "setup": row.setup_seconds,
    }
    parts = [f"{name} {seconds:.2f} s" for name, seconds in phases.items() if seconds]
    waited = f"It had waited {(row.started_at - row.created_at).total_seconds():.2f} s"
    return f"{waited}; of that for its container: {', '.join(parts)}." if parts else f"{waited}."


def _end(row: Row) -> str | None:
    ran = "" if row.micros is None else f"It ran {row.micros / MICROS_PER_SECOND:.2f} s."
    if row.cached_from is not None:
        return f"It was given the result of {row.cached_from} instead of running."
    if row.status == S.SUCCEEDED:
        return ran
    if row.status == S.ABORTED:
        return "Its deadline passed before it started."
    if row.status == S.FAILED:
        error = (row.error or "").strip()
        error = error if len(error) <= _ERROR_CHARACTERS else f"…{error[-_ERROR_CHARACTERS:]}"
        return f"{row.failure_code or FailureCode.MODEL}: {error} {ran}".rstrip()
    return f"{_why_canceled(row)} {ran}".rstrip()


def _why_canceled(row: Row) -> str:
    if row.failure_code == FailureCode.INSUFFICIENT_FUNDS:
        return "The money that pays for it was used up."
    return "It was asked to." if row.cancel_requested_at is not None else "Its deadline passed."


# --- what it waited for -----------------------------------------------------------------------------------------------


async def _queued(tx: Transaction, row: Row) -> list[Entry]:
    """Why its target had to wait, as long as it waited itself."""
    until = row.started_at or row.completed_at
    rows = await events.of(tx, events.target(row.target), since=row.created_at, until=until)
    entries = _told(rows, _QUEUE)
    if row.queue_reason and row.completed_at is None:
        entries.append(Entry(now(), _QUEUE, events.SCHEDULER, None, None, row.queue_reason))
    return [next(same) for _, same in groupby(entries, lambda entry: entry.reason)]


async def _boots(tx: Transaction, row: Row, sees_all: bool) -> list[Entry]:
    """Of the containers that came up for its target while it waited, and of those that ran it."""
    until = row.completed_at or now()
    subjects = {events.instance(instance.id): instance for instance in await _instances(tx, row)}
    entries = []
    for event in await events.of(tx, *subjects, until=until):
        instance = subjects[event.subject]
        was_ready = instance.ready_at is not None and instance.ready_at < row.created_at
        concerns = event.at >= row.created_at if was_ready else True
        if concerns and (sees_all or event.becomes in _BOOTING):
            entries += _told([event], event.subject)
    return entries


async def _instances(tx: Transaction, row: Row) -> Sequence[Row]:
    waited_until = row.started_at or row.completed_at or func.now()
    booted = and_(
        Instance.created_at <= waited_until,
        func.coalesce(Instance.ready_at, Instance.ended_at, func.now()) >= row.created_at,
    )
    # An earlier attempt ended with its container, most likely.
    lost = and_(Instance.status == InstanceStatus.FAILED, Instance.ended_at.between(row.created_at, waited_until))
    return await tx.all(
        select(Instance.id, Instance.ready_at)
        .where(
            Instance.version_id == row.version_id,
            Instance.target == row.target,
            or_(
                Instance.id == row.instance_id,
                and_(Instance.created_at > row.created_at - _LONGEST_BOOT, booted),
                *([lost] if row.attempt > 1 else []),
            ),
        )
        .order_by(Instance.id != row.instance_id, Instance.created_at)
        .limit(_BOOTS)
    )
