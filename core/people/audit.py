"""The audit log: who did what, from where, and what it changed; in the same transaction as the deed.

Verbs call `record`; who is acting is set once, by whoever lets a request, a page or a command in (`acting`). Each event
has the number after the last one's and a hash over the last one's and its own content: what is changed, removed or put
between shows (`audit_trail` reads and proves it). Predictions are not here: their rows, usage and the ledger
say all of it.
"""

import hashlib
import json
import os
import pwd
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, func, insert, select

from core.clock import rfc3339
from core.database import Transaction
from core.log import process_name
from core.people.redaction import redacted, redacted_text
from core.tables import AuditEvent

#: Before the first event.
GENESIS = bytes(32)
#: What a hash covers.
CONTENT = (
    *("number", "at", "actor", "actor_account_id", "actor_token_id", "address"),
    *("action", "account_id", "target", "before", "after"),
)
#: Of the lock that lets one transaction at a time extend the chain.
_LOCK = 0x6175646974
_VIA = " via token "


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: an Account, perhaps by one of its tokens, from an address; or a process, which has a name only."""

    name: str
    account_id: str | None = None
    token_id: str | None = None
    address: str | None = None


_actor: ContextVar[Actor | None] = ContextVar("actor", default=None)


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """Whatever is recorded inside, by this task and those it starts, was done by `actor`."""
    before = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(before)


def act_as(actor: Actor) -> None:
    """The same for the rest of a command; to be called before it starts any task."""
    _actor.set(actor)


def by_token(caller: Row, address: str | None) -> Actor:
    """Who speaks through the api: a row as `tokens.caller` gives it."""
    via = f"{caller.token_name} ({caller.token_prefix}…)" if caller.token_name else f"{caller.token_prefix}…"
    return Actor(f"{caller.username}{_VIA}{via}", caller.id, caller.token_id, address)


def account_alone(actor: str) -> str:
    """Without the token, or the person, that spoke for it."""
    return re.split(rf"{_VIA}| \(", actor, maxsplit=1)[0]


def operator() -> Actor:
    """Whoever runs commands on this machine. The system says who that is; the environment could say anybody."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        # Containers often run as a number that has no name.
        name = str(uid)
    return Actor(f"operator {name}")


async def record(
    tx: Transaction,
    action: str,
    target: str,
    *,
    account_id: str | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Puts on record that the present actor has done `action` (noun and verb: `token.revoke`) to `target`.

    `target`: which thing of which kind, like `token:<id>` or `model:<owner>/<name>`. `account_id`: whose money, access
    or data it touches. `before` and `after`: what it changed; amounts as `x_nanos`. The event is written when `tx`
    commits, and not if it does not; `tx` must be a `transaction()`.
    """
    # Nobody in particular: what a process does by itself.
    actor = _actor.get() or Actor(process_name())
    event = {
        "actor": redacted_text(actor.name),
        "actor_account_id": actor.account_id,
        "actor_token_id": actor.token_id,
        "address": actor.address,
        "action": action,
        "account_id": account_id,
        "target": redacted_text(target),
        "before": redacted(before),
        "after": redacted(after),
    }
    tx.before_commit(_append, event)


async def record_change(
    tx: Transaction,
    action: str,
    target: str,
    *,
    account_id: str | None,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> None:
    """The same with only what differs of `before` and `after`, and nothing where nothing does."""
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    if changed:
        was, now = ({key: side.get(key) for key in changed} for side in (before, after))
        await record(tx, action, target, account_id=account_id, before=was, after=now)


async def _append(tx: Transaction, events: list[dict[str, Any]]) -> None:
    """Extends the chain by all events of a transaction, at its very end.

    The lock is held until the commit is visible, so whoever gets it next reads the true last event. That takes two
    statements: one that waits for the lock and reads would read as of before it waited. It comes last because every
    audited transaction wants it: taken earlier, one that holds it and waits for a row would wait for one that has the
    row and waits for it, and all others behind them. Where a transaction saw an older state after all, the number is
    taken and the primary key refuses: nothing is ever written twice or out of line.
    """
    # The clock as it is then, not as it was when the transaction began.
    locked = await tx.one(select(func.pg_advisory_xact_lock(_LOCK), func.clock_timestamp().label("at")))
    newest = select(AuditEvent.number, AuditEvent.hash).order_by(AuditEvent.number.desc()).limit(1)
    last = await tx.first(newest)
    first, previous = (last.number + 1, last.hash) if last else (1, GENESIS)
    rows = []
    for number, event in enumerate(events, first):
        row = {**event, "number": number, "at": locked.at, "previous_hash": previous}
        row["hash"] = previous = digest(previous, row)
        rows.append(row)
    await tx.execute(insert(AuditEvent), rows)


def content(event: Mapping[str, Any]) -> dict[str, Any]:
    """As it is hashed and exported."""
    return {name: event[name] for name in CONTENT} | {"at": rfc3339(event["at"])}


def digest(previous: bytes, event: Mapping[str, Any]) -> bytes:
    """SHA-256 over the previous hash and the event as JSON with sorted keys, without spaces, in UTF-8."""
    text = json.dumps(content(event), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(previous + text.encode()).digest()
