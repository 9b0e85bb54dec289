"""What a check is, and the kind that asks Postgres one question.

A check reads only, and never more than its index or the latest rows: it may be run on the biggest tables at any time.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import bindparam, text

from core.resources import Resources

#: Of one kind, so many are named; that there are more is said.
SHOWN = 20
#: Whatever the platform mends by itself is mended by then: a sweep comes once in two seconds, a claim lasts a minute.
LATE_SECONDS = 30.0
#: Where no index leads to what is looked for, so many of the latest rows are looked at.
RECENT = 10_000


class Finding(NamedTuple):
    """`subject` names the thing, the sentence says what is wrong with it and what to do."""

    subject: str
    sentence: str


class NotChecked(Exception):
    """It cannot be told here; the message says why."""


@dataclass(frozen=True, slots=True)
class Check:
    """`invariant` is the number of the promise it belongs to; None: it looks after the machines."""

    name: str
    promise: str
    find: Callable[[Resources], Awaitable[list[Finding]]]
    invariant: int | None = None
    reads_everything: bool = False
    """Its time grows with what was ever used."""


def asks(name: str, promise: str, sql: str, sentence: str, *, invariant: int | None = None, **values: object) -> Check:
    """Each row that `sql` finds breaks the promise: it has a `subject`, and fills in the sentence."""
    statement = text(f"SELECT * FROM ({sql}) AS found ORDER BY subject LIMIT {SHOWN + 1}")
    statement = statement.bindparams(*(bindparam(name, value) for name, value in values.items()))

    async def find(resources: Resources) -> list[Finding]:
        async with resources.database.autocommit() as tx:
            rows = await tx.all(statement)
        return [Finding(str(row.subject), sentence.format(**row._mapping)) for row in rows]

    return Check(name, promise, find, invariant)
