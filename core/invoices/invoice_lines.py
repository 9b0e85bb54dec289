"""What an Account used in a period, and what of it was given back, summed up by the database: a month may have a
million records.

Use belongs to the period in which it ended. What was given back belongs to the one in which that happened.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Numeric,
    Row,
    Select,
    Text,
    column,
    func,
    literal,
    or_,
    select,
    union_all,
)

from core.database import Transaction
from core.invoices.billing_months import Period
from core.money import ledger
from core.money.credits import PROMOTIONAL
from core.money.holds import WALLET
from core.money.ledger import Kind
from core.money.pricing import MICROS_PER_SECOND
from core.tables import Credit, CreditBurn, Hardware, LedgerEntry, UsageRecord, WalletPosting
from core.usage.metering import PREDICTION

RECORD, ENTRY = UsageRecord.__table__, LedgerEntry.__table__
SECOND = "second"

#: Of `usage_records.units`.
_UNIT_COLUMNS = (
    column("metric", Text),
    column("quantity", Numeric),
    column("price_id", Text),
    column("nanos_per_unit", BigInteger),
    column("amount_nanos", BigInteger),
)
_MICROS = Decimal(MICROS_PER_SECOND)
#: Entries are dated by the beginning of their transaction, use by the end of what ran: a moment later at most.
_ABOUT = timedelta(hours=1)


def is_billed() -> ColumnElement[bool]:
    """Time of Instances that costs their owner nothing, because callers pay for what they run, is nobody's to see."""
    return or_(RECORD.c.cause_kind == PREDICTION, RECORD.c.amount_nanos != 0)


def _in(account_id: str, since: datetime, until: datetime) -> tuple[ColumnElement[bool], ...]:
    return (RECORD.c.account_id == account_id, RECORD.c.ended_at >= since, RECORD.c.ended_at < until, is_billed())


async def usage(tx: Transaction, account_id: str, period: Period) -> list[dict[str, Any]]:
    """One line for each Model, Hardware, phase and price; so a price that changed meanwhile makes two."""
    chosen = _in(account_id, period.start, period.end)
    lines = union_all(_by_second(chosen), _by_unit(chosen)).subquery("lines")
    order = ("model", "hardware_sku", "cause_kind", "phase", "metric", "first_at", "price_id", "nanos_per_unit")
    rows = await tx.all(select(lines).order_by(*(lines.c[name] for name in order)))
    names = await _hardware(tx)
    return [_line(row, names) for row in rows]


def _by_second(chosen: tuple[ColumnElement[bool], ...]) -> Select:
    keys = (RECORD.c.model, RECORD.c.hardware_sku, RECORD.c.cause_kind, RECORD.c.phase)
    price = (RECORD.c.price_id, RECORD.c.price_nanos_per_second)
    return (
        select(
            *keys,
            literal(SECOND).label("metric"),
            RECORD.c.price_id,
            RECORD.c.price_nanos_per_second.label("nanos_per_unit"),
            _runs().label("runs"),
            (func.sum(RECORD.c.micros) / _MICROS).label("quantity"),
            func.sum(RECORD.c.amount_nanos).label("amount_nanos"),
            func.min(RECORD.c.ended_at).label("first_at"),
        )
        .where(*chosen, RECORD.c.units.is_(None))
        .group_by(*keys, *price)
    )


def _by_unit(chosen: tuple[ColumnElement[bool], ...]) -> Select:
    unit = (
        func.jsonb_to_recordset(RECORD.c.units)
        .table_valued(*_UNIT_COLUMNS, name="unit")
        .render_derived(name="unit", with_types=True)
    )
    keys = (RECORD.c.model, RECORD.c.hardware_sku, RECORD.c.cause_kind, RECORD.c.phase)
    price = (unit.c.metric, unit.c.price_id, unit.c.nanos_per_unit)
    sums = (func.sum(unit.c.quantity), func.sum(unit.c.amount_nanos), func.min(RECORD.c.ended_at))
    return (
        select(*keys, *price, _runs(), *sums)
        .join_from(RECORD, unit, literal(True))
        .where(*chosen, RECORD.c.units.is_not(None))
        .group_by(*keys, *price)
    )


def _runs() -> ColumnElement[int]:
    return func.count().filter(RECORD.c.cause_kind == PREDICTION)


async def _hardware(tx: Transaction) -> dict[str, str]:
    return {row.sku: row.name for row in await tx.all(select(Hardware.sku, Hardware.name))}


def _line(row: Row, hardware: Mapping[str, str]) -> dict[str, Any]:
    return {
        "kind": Kind.USAGE.value,
        "model": row.model,
        "hardware": row.hardware_sku,
        "hardware_name": hardware.get(row.hardware_sku, row.hardware_sku),
        "cause": row.cause_kind,
        "phase": row.phase,
        "runs": row.runs,
        "metric": row.metric,
        "quantity": f"{row.quantity.normalize():f}",
        "price_id": row.price_id,
        "nanos_per_unit": int(row.nanos_per_unit),
        "amount_nanos": int(row.amount_nanos),
    }


async def given_back(tx: Transaction, account_id: str, period: Period, since: datetime | None) -> list[dict[str, Any]]:
    """Discounts and refunds since the last invoice's end, by reason, and waivers of what the period used."""
    own = ENTRY.c.ledger_account == ledger.account(account_id)
    by_date = select(ENTRY.c.kind, ENTRY.c.reason, ENTRY.c.amount_nanos).where(
        own, ENTRY.c.kind.in_([Kind.DISCOUNT.value, Kind.REFUND.value]), ENTRY.c.created_at < period.end
    )
    if since is not None:
        by_date = by_date.where(ENTRY.c.created_at >= since)
    by_use = _waivers(own, *_in(account_id, period.start, period.end)).where(
        ENTRY.c.created_at >= period.start - _ABOUT
    )
    found = union_all(by_date, by_use).subquery("found")
    rows = await tx.all(
        select(found.c.kind, found.c.reason, func.count().label("count"), func.sum(found.c.amount_nanos).label("nanos"))
        .group_by(found.c.kind, found.c.reason)
        .order_by(found.c.kind, found.c.reason)
    )
    return [
        {"kind": row.kind, "reason": row.reason or "", "count": row.count, "amount_nanos": -int(row.nanos)}
        for row in rows
    ]


def _waivers(*conditions: ColumnElement[bool]) -> Select:
    """What runs cost beyond their holds."""
    joined = select(ENTRY.c.kind, ENTRY.c.reason, ENTRY.c.amount_nanos).join_from(
        ENTRY, RECORD, RECORD.c.id == ENTRY.c.usage_record_id
    )
    return joined.where(ENTRY.c.kind == Kind.WAIVER.value, *conditions)


async def owed_at(tx: Transaction, account_id: str, end: datetime) -> int:
    """How far the wallet was below zero at that moment: as it is now, less what has happened since.

    One statement, so that nothing is folded between two looks.
    """
    own = ENTRY.c.ledger_account == ledger.account(account_id)
    later = (own, ENTRY.c.created_at >= end - _ABOUT)
    used = (RECORD.c.account_id == account_id, RECORD.c.ended_at >= end)
    waived = _waivers(*later, *used).subquery()
    others = (own, ENTRY.c.created_at >= end, ENTRY.c.kind.not_in([Kind.USAGE.value, Kind.WAIVER.value]))
    since = (
        _sum(ENTRY.c.amount_nanos, *others)
        + select(func.coalesce(func.sum(waived.c.amount_nanos), 0)).scalar_subquery()
        - _sum(RECORD.c.amount_nanos, *used)
    )
    pending = _sum(WalletPosting.amount_nanos, WalletPosting.account_id == account_id)
    balance = select(WALLET.c.balance_nanos + pending - since).where(WALLET.c.account_id == account_id)
    return max(0, -int(await tx.scalar(balance)))


def _sum(column: Any, *conditions: ColumnElement[bool]) -> Any:
    return select(func.coalesce(func.sum(column), 0)).where(*conditions).scalar_subquery()


async def promotional_used(tx: Transaction, account_id: str, period: Period) -> int:
    """Given credit that was used on the days (UTC, by which that is counted) that begin within the period."""
    days = (CreditBurn.day >= _first_day(period.start), CreditBurn.day < _first_day(period.end))
    used = select(func.coalesce(func.sum(CreditBurn.amount_nanos), 0)).join(Credit, Credit.id == CreditBurn.credit_id)
    return int(await tx.scalar(used.where(Credit.account_id == account_id, Credit.kind == PROMOTIONAL, *days)))


def _first_day(moment: datetime) -> date:
    """The first that does not begin before."""
    midnight = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight if midnight == moment else midnight + timedelta(days=1)).date()
