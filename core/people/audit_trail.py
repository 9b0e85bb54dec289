"""The audit log read: page by page, as a whole, and proven link by link. `core/people/audit.py` writes it.

What the chain itself cannot show is an end that was cut off, or one that was written anew from some event on by
whoever could: for that, keep a `Head` elsewhere and give it to `verify` later.
"""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Row, select

from core.database import Database, Transaction
from core.people import audit
from core.tables import AuditEvent
from core.usage import exports

_BATCH = 1000

#: Of an export.
COLUMNS = (*audit.CONTENT, "previous_hash", "hash")
CSV_HEADER = exports.header(COLUMNS)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events; by default all. `action` is how it begins: `token.` finds all that was done to tokens."""

    account_id: str | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        wanted = []
        if self.account_id is not None:
            wanted.append(AuditEvent.account_id == self.account_id)
        if self.action is not None:
            wanted.append(AuditEvent.action.startswith(self.action, autoescape=True))
        if self.since is not None:
            wanted.append(AuditEvent.at >= self.since)
        if self.until is not None:
            wanted.append(AuditEvent.at < self.until)
        return wanted


_EVENTS = select(*AuditEvent.__table__.c)


async def page(tx: Transaction, filter: Filter, before: int | None, limit: int) -> list[Row]:
    """Newest first, the number as `id` as well; `before` is the number of the last one seen."""
    statement = select(*AuditEvent.__table__.c, AuditEvent.number.label("id")).where(*filter.conditions)
    if before is not None:
        statement = statement.where(AuditEvent.number < before)
    return list(await tx.all(statement.order_by(AuditEvent.number.desc()).limit(limit)))


async def stream(database: Database, filter: Filter) -> AsyncIterator[list[Row]]:
    """Oldest first, in batches, each read in a moment of its own: whoever takes them slowly holds no connection."""
    last = 0
    while True:
        async with database.autocommit() as tx:
            batch = await _batch(tx, filter, last)
        if not batch:
            return
        yield batch
        last = batch[-1].number


async def _batch(tx: Transaction, filter: Filter, last: int) -> list[Row]:
    following = _EVENTS.where(*filter.conditions, AuditEvent.number > last)
    return list(await tx.all(following.order_by(AuditEvent.number).limit(_BATCH)))


def shown(row: Row, reader_id: str | None = None) -> dict[str, Any]:
    """An event with what proves it; all of it to an admin of the server (no `reader_id`).

    An Account learns who else has touched what is its own, but not through whom and from where.
    """
    hashes = {"previous_hash": row.previous_hash.hex(), "hash": row.hash.hex()}
    event = {**audit.content(row._mapping), **hashes}
    if reader_id not in (None, row.actor_account_id):
        event |= {"actor": audit.account_alone(row.actor), "actor_token_id": None, "address": None}
    return event


def json_lines(events: Sequence[dict[str, Any]]) -> str:
    return "".join(orjson.dumps(event).decode() + "\n" for event in events)


def csv_lines(events: Sequence[dict[str, Any]]) -> str:
    return exports.lines(COLUMNS, events)


# --- proof ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Head:
    """The last event at some time. Written down elsewhere, it proves later that nothing up to it has changed since."""

    number: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.number}:{self.hash.hex()}"

    @classmethod
    def parse(cls, text: str) -> "Head":
        """Raises `ValueError`."""
        found = re.fullmatch(r"([0-9]{1,18}):([0-9a-f]{64})", text)
        if found is None:
            raise ValueError(text)
        return cls(int(found[1]), bytes.fromhex(found[2]))


_BEGINNING = Head(0, audit.GENESIS)


class BrokenChain(Exception):
    """Says at which event, and what is wrong."""


async def verify(tx: Transaction, known: Head | None = None) -> Head:
    """Walks the whole chain and returns its head. Raises `BrokenChain` at the first event that does not fit.

    `known`: a head that an earlier call returned. Give it an `autocommit()`: one long transaction is not needed, since
    what is being added meanwhile is added at the end.
    """
    head = _BEGINNING
    while batch := await _batch(tx, Filter(), head.number):
        for row in batch:
            head = _next(head, row)
            _compare(head, known)
    if known is not None and known.number > head.number:
        raise BrokenChain(f"The log ends with event {head.number}, and once had event {known.number}: the end is gone.")
    return head


def _next(head: Head, row: Row) -> Head:
    if row.number != head.number + 1:
        missing = _range(head.number + 1, row.number - 1)
        raise BrokenChain(f"Event {row.number} follows event {head.number}: {missing} missing.")
    if row.previous_hash != head.hash:
        raise BrokenChain(f"Event {row.number} was not written after event {head.number} as it stands there now.")
    if row.hash != audit.digest(row.previous_hash, row._mapping):
        raise BrokenChain(f"Event {row.number} is not what was written: its hash does not fit its content.")
    return Head(row.number, row.hash)


def _range(first: int, last: int) -> str:
    return f"event {first} is" if first == last else f"events {first} to {last} are"


def _compare(head: Head, known: Head | None) -> None:
    if known is not None and head.number == known.number and head.hash != known.hash:
        raise BrokenChain(f"Event {head.number} is another than the one that was noted: the log was written anew.")
