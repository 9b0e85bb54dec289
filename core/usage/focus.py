"""What was charged, in the columns of FOCUS 1.2 (FinOps Open Cost and Usage Specification), for cost tools.

Per day: runs and time of Instances, summed up by all that a row names, its tags and its price included, which no
roll-up knows; and what the ledger says besides. `BilledCost` of all rows is what the Account's balance went down by:
usage on the day on which it ended, the rest when it was booked. Payments are no cost, and are left out: top-ups, and
adjustments, which undo them.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    CompoundSelect,
    Numeric,
    Row,
    Select,
    case,
    cast,
    func,
    literal,
    literal_column,
    null,
    select,
    union,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB

from core.database import Database, Transaction, one_of
from core.money import ledger, prices
from core.money.ledger import Kind
from core.money.pricing import NANOS_PER_DOLLAR
from core.tables import Account, LedgerEntry, Price, Token, UsageDay, UsageRecord, WalletPosting
from core.usage import metering
from core.usage.exports import amount, seconds

_RECORD, _ENTRY = UsageRecord.__table__, LedgerEntry.__table__

#: The mandatory columns of version 1.2, those it asks for where they mean something, and ours, which begin with `x_`.
COLUMNS = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingAccountType",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingCategory",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SkuMeter",
    "SkuPriceId",
    "SubAccountId",
    "SubAccountName",
    "SubAccountType",
    "Tags",
    "x_Hardware",
    "x_LedgerKind",
    "x_Model",
    "x_Outcome",
    "x_Phase",
    "x_Runs",
)

_SERVICE = {
    "ServiceCategory": "AI and Machine Learning",
    "ServiceName": "Millrace",
    "ServiceSubcategory": "Machine Learning",
}
_SECONDS = "Seconds"

#: What the ledger says besides usage. A refund is usage with its sign turned.
CATEGORIES = {
    Kind.WAIVER: "Adjustment",
    Kind.DISCOUNT: "Adjustment",
    Kind.REFUND: "Usage",
    Kind.PROMOTION: "Credit",
    Kind.EXPIRY: "Credit",
}

# The first as the index has it.
_IS_BESIDES_USAGE = (
    _ENTRY.c.kind != literal_column("'usage'"),
    _ENTRY.c.kind.in_([kind.value for kind in CATEGORIES]),
)


@dataclass(frozen=True, slots=True)
class Period:
    """From `first` to `last`, days in UTC, both included; of one Account, or of all. `provider`: who runs this."""

    first: date
    last: date
    provider: str
    account_id: str | None = None


async def stream(database: Database, period: Period) -> AsyncIterator[list[dict[str, Any]]]:
    """Rows under `COLUMNS`, day by day, a transaction for each."""
    async with database.autocommit() as tx:
        days = [row.day for row in await tx.all(_days(period))]
    for day in days:
        async with database.autocommit() as tx:
            yield await of_day(tx, period, day)


def _days(period: Period) -> CompoundSelect:
    """Those on which there is something: folded, not folded yet, or booked."""
    start = datetime(period.first.year, period.first.month, period.first.day, tzinfo=UTC)
    end = start + timedelta(days=(period.last - period.first).days + 1)
    folded, record = UsageDay.__table__, _RECORD
    waiting = select(record.c.day).join(WalletPosting, WalletPosting.usage_record_id == record.c.id)
    of_folded = select(folded.c.day).where(folded.c.day.between(period.first, period.last))
    of_waiting = waiting.where(record.c.day.between(period.first, period.last))
    of_booked = select(func.date(func.timezone("UTC", _ENTRY.c.created_at)).label("day")).where(
        *_IS_BESIDES_USAGE, _ENTRY.c.created_at >= start, _ENTRY.c.created_at < end
    )
    if period.account_id is not None:
        of_folded = of_folded.where(folded.c.account_id == period.account_id)
        of_waiting = of_waiting.where(record.c.account_id == period.account_id)
        of_booked = of_booked.where(_ENTRY.c.ledger_account == ledger.account(period.account_id))
    return union(of_folded, of_waiting, of_booked).order_by("day")


async def of_day(tx: Transaction, period: Period, day: date) -> list[dict[str, Any]]:
    used = await tx.all(_usage(day, period.account_id))
    booked = await tx.all(_booked(day, period.account_id))
    names = await _account_names(tx, {row.account_id for row in (*used, *booked)})
    listed = await _list_prices(tx, used)
    common = _of_period(day, period.provider)
    rows = [{**common, **_used_row(row, listed.get(row.price_id, row.nanos), period.provider)} for row in used]
    rows += [{**common, **_booked_row(row, day, period.provider)} for row in booked]
    return [{**dict.fromkeys(COLUMNS), **row, **names[row["BillingAccountId"]]} for row in rows]


# --- usage ------------------------------------------------------------------------------------------------------------


def _usage(day: date, account_id: str | None) -> Select:
    """By the second, and where Models are priced by what they make, by the unit."""
    own = [_RECORD.c.day == day]
    if account_id is not None:
        # Its index is by moment.
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        own += [
            _RECORD.c.account_id == account_id,
            _RECORD.c.ended_at >= start,
            _RECORD.c.ended_at < start + timedelta(days=1),
        ]
    by_second = select(
        *_KEYS,
        _RECORD.c.price_id,
        _RECORD.c.price_nanos_per_second.label("nanos"),
        cast(null(), _RECORD.c.model.type).label("metric"),
        cast(_RECORD.c.micros, Numeric).label("quantity"),
        _RECORD.c.amount_nanos,
        _RECORD.c.ended_at,
        _RUN.label("run"),
    ).where(*own, _RECORD.c.units.is_(None))
    line = func.jsonb_array_elements(_RECORD.c.units).table_valued("value").lateral("line")
    value = cast(line.c.value, JSONB)
    by_unit = (
        select(
            *_KEYS,
            value["price_id"].astext,
            cast(value["nanos_per_unit"].astext, BigInteger),
            value["metric"].astext,
            cast(value["quantity"].astext, Numeric),
            cast(value["amount_nanos"].astext, BigInteger),
            _RECORD.c.ended_at,
            _RUN,
        )
        .join_from(_RECORD, line, literal(True))
        .where(*own, _RECORD.c.units.is_not(None))
    )
    found = union_all(by_second, by_unit).subquery()
    keys = [found.c[name] for name in (*(key.name for key in _KEYS), "price_id", "nanos", "metric")]
    return (
        select(
            *keys,
            func.sum(found.c.quantity).label("quantity"),
            func.sum(found.c.amount_nanos).label("amount_nanos"),
            func.sum(found.c.run).label("runs"),
            func.max(found.c.ended_at).label("ended_at"),
            select(Token.name).where(Token.id == found.c.token_id).scalar_subquery().label("token_name"),
        )
        .group_by(*keys)
        .order_by(*keys[:-3])
    )


_KEYS = tuple(
    _RECORD.c[name]
    for name in ("account_id", "model", "deployment", "hardware_sku", "token_id", "phase", "outcome", "tags")
)
_RUN = case((_RECORD.c.cause_kind == metering.PREDICTION, 1), else_=0)


async def _list_prices(tx: Transaction, used: Sequence[Row]) -> dict[str, int]:
    """What everybody pays, by the ids of those prices that are one Account's own."""
    ended = {row.price_id: row.ended_at for row in used if row.price_id}
    own = select(Price).where(one_of(Price.id, list(ended)), Price.account_id.is_not(None))
    found = {}
    for price in await tx.all(own):
        book = prices.standing(price.kind, price.subject, None, ended[price.id])
        found[price.id] = await tx.scalar(select(book.c.nanos_per_unit).where(book.c.metric == price.metric))
    return {id: nanos for id, nanos in found.items() if nanos is not None}


def _used_row(row: Row, list_nanos: int, provider: str) -> dict[str, Any]:
    quantity = seconds(int(row.quantity)) if row.metric is None else row.quantity
    unit = row.metric or _SECONDS
    what = f"{row.runs} runs" if row.outcome else f"time of instances ({row.phase})"
    return {
        **_subject(row, provider),
        "BilledCost": amount(int(row.amount_nanos)),
        "EffectiveCost": amount(int(row.amount_nanos)),
        # Each charge is rounded down to a nanodollar; these are not.
        "ContractedCost": _exact(quantity * row.nanos),
        "ContractedUnitPrice": amount(row.nanos),
        "ListCost": _exact(quantity * list_nanos),
        "ListUnitPrice": amount(list_nanos),
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{row.model} on {row.hardware_sku}: {what}",
        "ChargeFrequency": "Usage-Based",
        "PricingCategory": "Standard",
        "PricingQuantity": quantity,
        "PricingUnit": unit,
        "ConsumedQuantity": quantity,
        "ConsumedUnit": unit,
        "SkuId": f"{row.hardware_sku}" if row.metric is None else f"{row.model}:{row.metric}",
        "SkuMeter": f"{row.phase} time" if row.metric is None else row.metric,
        "SkuPriceId": row.price_id,
        "x_LedgerKind": Kind.USAGE.value,
        "x_Outcome": row.outcome,
        "x_Phase": row.phase,
        "x_Runs": int(row.runs),
    }


# --- what the ledger says besides -------------------------------------------------------------------------------------


def _booked(day: date, account_id: str | None) -> Select:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    own = _ENTRY.c.ledger_account
    of_accounts = own.like("account:%") if account_id is None else own == ledger.account(account_id)
    month = cast(func.date_trunc("month", _RECORD.c.day), _RECORD.c.day.type).label("month")
    found = (
        select(
            func.substr(own, len("account:") + 1).label("account_id"),
            _ENTRY.c.kind,
            _ENTRY.c.reason,
            *(_RECORD.c[name] for name in ("model", "deployment", "hardware_sku", "token_id", "tags")),
            month,
            _ENTRY.c.amount_nanos,
        )
        .outerjoin_from(_ENTRY, _RECORD, _RECORD.c.id == func.coalesce(_ENTRY.c.usage_record_id, _ENTRY.c.corrects))
        .where(
            *_IS_BESIDES_USAGE,
            _ENTRY.c.created_at >= start,
            _ENTRY.c.created_at < start + timedelta(days=1),
            of_accounts,
        )
        .subquery()
    )
    keys = [column for column in found.c if column.name != "amount_nanos"]
    token = select(Token.name).where(Token.id == found.c.token_id).scalar_subquery()
    return (
        select(*keys, func.sum(found.c.amount_nanos).label("amount_nanos"), token.label("token_name"))
        .group_by(*keys)
        .order_by(found.c.account_id, found.c.kind, found.c.model, found.c.reason)
    )


def _booked_row(row: Row, day: date, provider: str) -> dict[str, Any]:
    cost = amount(-int(row.amount_nanos))
    is_of_earlier_month = row.month is not None and row.month < day.replace(day=1)
    return {
        **_subject(row, provider),
        **dict.fromkeys(("BilledCost", "EffectiveCost", "ContractedCost", "ListCost"), cost),
        "ChargeCategory": CATEGORIES[Kind(row.kind)],
        "ChargeClass": "Correction" if is_of_earlier_month else None,
        "ChargeDescription": f"{row.kind}: {row.reason or 'beyond what was held for it'}",
        "ChargeFrequency": "One-Time",
        "x_LedgerKind": row.kind,
    }


# --- what every row says ----------------------------------------------------------------------------------------------


def _subject(row: Row, provider: str) -> dict[str, Any]:
    resource = row.deployment or row.model
    return {
        "BillingAccountId": row.account_id,
        "PublisherName": row.model.partition("/")[0] if row.model else provider,
        "ResourceId": resource,
        "ResourceName": resource,
        "ResourceType": ("Deployment" if row.deployment else "Model") if resource else None,
        "SubAccountId": row.token_id,
        "SubAccountName": row.token_name,
        "SubAccountType": "Token" if row.token_id else None,
        "Tags": row.tags or {},
        "x_Hardware": row.hardware_sku,
        "x_Model": row.model,
    }


def _of_period(day: date, provider: str) -> dict[str, Any]:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    month = start.replace(day=1)
    return {
        **_SERVICE,
        "BillingCurrency": "USD",
        "BillingPeriodStart": month,
        "BillingPeriodEnd": (month + timedelta(days=32)).replace(day=1),
        "ChargePeriodStart": start,
        "ChargePeriodEnd": start + timedelta(days=1),
        "InvoiceIssuerName": provider,
        "ProviderName": provider,
    }


async def _account_names(tx: Transaction, ids: set[str]) -> dict[str, dict[str, str]]:
    rows = await tx.all(select(Account.id, Account.username, Account.type).where(one_of(Account.id, list(ids))))
    return {row.id: {"BillingAccountName": row.username, "BillingAccountType": row.type} for row in rows}


def _exact(nanos: Decimal) -> Decimal:
    return nanos / NANOS_PER_DOLLAR
