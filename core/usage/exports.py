"""Tables of money as CSV: usage records, and the ledger. Rows in, text out; `focus` has the columns of cost tools.

Amounts are dollars with nine digits, exact; moments are UTC.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy import Row

from core.clock import rfc3339
from core.money import entries
from core.money.pricing import MICROS_PER_SECOND, dollars

_FORMULA = ("=", "+", "-", "@", "\t", "\r")

USAGE_COLUMNS = (
    "id",
    "account",
    "model",
    "version",
    "deployment",
    "hardware",
    "token",
    "phase",
    "outcome",
    "failure_code",
    "started_at",
    "ended_at",
    "seconds",
    "price_per_second",
    "price_id",
    "units",
    "amount",
    "tags",
)
LEDGER_COLUMNS = (
    "id",
    "transaction",
    "created_at",
    "kind",
    "amount",
    "counterpart",
    "about",
    "about_id",
    "corrects",
    "actor",
    "reason",
)


def lines(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([_cell(row[name]) for name in columns] for row in rows)
    return text.getvalue()


def header(columns: Sequence[str]) -> str:
    return ",".join(columns) + "\r\n"


def seconds(micros: int) -> Decimal:
    """Exact, six digits."""
    return (Decimal(micros) / MICROS_PER_SECOND).quantize(Decimal("0.000001"))


def usage_row(row: Row) -> dict[str, Any]:
    """Under `USAGE_COLUMNS`."""
    return {
        "id": row.id,
        "account": row.account_name,
        "model": row.model,
        "version": row.version_id,
        "deployment": row.deployment,
        "hardware": row.hardware_sku,
        "token": row.token_id,
        "phase": row.phase,
        "outcome": row.outcome,
        "failure_code": row.failure_code,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        # As text, which is a tenth of the work; below zero is none of them.
        "seconds": f"{row.micros // MICROS_PER_SECOND}.{row.micros % MICROS_PER_SECOND:06d}",
        "price_per_second": dollars(row.price_nanos_per_second),
        "price_id": row.price_id,
        "units": row.units,
        "amount": dollars(row.amount_nanos),
        "tags": row.tags,
    }


def ledger_row(row: Row) -> dict[str, Any]:
    """Under `LEDGER_COLUMNS`."""
    about, about_id = entries.refers_to(row) or (None, None)
    return {
        "id": row.id,
        "transaction": row.transaction_id,
        "created_at": row.created_at,
        "kind": row.kind,
        "amount": amount(row.amount_nanos),
        "counterpart": row.counterpart,
        "about": about,
        "about_id": about_id,
        "corrects": row.corrects,
        "actor": row.actor,
        "reason": row.reason,
    }


def amount(nanos: int) -> Decimal:
    """A number, where `dollars` is text: what begins with a minus there would be taken for a formula."""
    return Decimal(dollars(nanos))


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        # A spreadsheet would take it for a formula, and people choose names.
        return f"'{value}" if value.startswith(_FORMULA) else value
    match value:
        case datetime():
            return rfc3339(value)
        case Decimal():
            return format(value, "f")
        case dict() | list():
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    return value
