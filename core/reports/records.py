"""Usage records, one by one: page by page, as a stream, and a single one with all that explains its amount."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Row, Select, literal, or_, select, tuple_
from sqlalchemy.dialects.postgresql import JSONB

from core.database import Database, Transaction, one_of
from core.errors import NotFound
from core.money import ledger, refunds
from core.reports.filters import Filter
from core.reports.totals import total
from core.reports.usage import TAGS
from core.tables import Account, Hardware, LedgerEntry, Prediction, Price, Token, UsageRecord
from core.usage.metering import PREDICTION

TABLE, ENTRY = UsageRecord.__table__, LedgerEntry.__table__
PAGE_SIZE = 50
_BATCH = 2000
_LISTED = [c for c in TABLE.c if c.name not in ("units", "created_at")]

#: The (ended_at, id) of the last one seen.
Position = tuple[datetime, str]


def _listing(filter: Filter, before: Position | None) -> Select:
    """Newest first, in an order that an index has: of one Account, of one Model, or of all by their day."""
    moment = (TABLE.c.ended_at >= filter.since, TABLE.c.ended_at < filter.until)
    conditions = [*moment, *_chosen(filter)]
    if before is not None:
        conditions.append(tuple_(TABLE.c.ended_at, TABLE.c.id) < tuple_(*map(literal, before)))
    order = [TABLE.c.ended_at.desc(), TABLE.c.id.desc()]
    if filter.account is None and filter.model is None:
        # The day follows from the moment, so this is the same order.
        conditions.append(TABLE.c.day.between(filter.first, before[0].date() if before else filter.last))
        order.insert(0, TABLE.c.day.desc())
    return select(*_LISTED).where(*conditions).order_by(*order)


def _chosen(filter: Filter) -> list[ColumnElement[bool]]:
    """Where a roll-up has `''`, a record has nothing."""
    chosen = [
        condition if condition.right.value != "" else or_(condition.left.is_(None), condition)
        for condition in filter.conditions(TABLE)
    ]
    if filter.tag is not None:
        # Only where the roll-up knows of it: reading all of a month for one tag takes seconds.
        key, value = filter.tag
        known = (TAGS.c.key == key, TAGS.c.value == value, TAGS.c.day.between(filter.first, filter.last))
        for column in (TABLE.c.account_id, TABLE.c.day):
            places = select(TAGS.c[column.name]).where(*known, *filter.conditions(TAGS)).distinct()
            chosen.append(column.in_(places))
        chosen.append(TABLE.c.tags.contains(literal({key: value}, JSONB)))
    return chosen


async def page(tx: Transaction, filter: Filter, before: Position | None = None, limit: int = PAGE_SIZE) -> list[Row]:
    return list(await tx.all(_listing(filter, before).limit(limit)))


async def stream(database: Database, filter: Filter) -> AsyncIterator[Sequence[Row]]:
    """All of them in batches, each read in a moment of its own: whoever takes them slowly holds no connection."""
    before = None
    while True:
        async with database.autocommit() as tx:
            batch = await page(tx, filter, before, _BATCH)
        if batch:
            yield batch
        if len(batch) < _BATCH:
            return
        before = (batch[-1].ended_at, batch[-1].id)


@dataclass(frozen=True, slots=True)
class Given:
    """What of these charges was given back since."""

    refunded: int
    waived: int


async def given_back(tx: Transaction, records: Sequence[Row]) -> dict[str, Given]:
    """By usage record, for a page of them."""
    ids = [row.id for row in records]
    waivers = [f"{id}:waiver" for id in ids]
    is_account = ENTRY.c.ledger_account.startswith("account:")
    refunded = select(ENTRY.c.corrects, total(ENTRY.c.amount_nanos).label("nanos"))
    refunded = refunded.where(one_of(ENTRY.c.corrects, ids), is_account).group_by(ENTRY.c.corrects)
    waived = select(ENTRY.c.transaction_id, ENTRY.c.amount_nanos)
    waived = waived.where(one_of(ENTRY.c.transaction_id, waivers), is_account)
    back = {row.corrects: row.nanos for row in await tx.all(refunded)}
    free = {row.transaction_id.removesuffix(":waiver"): row.amount_nanos for row in await tx.all(waived)}
    return {id: Given(back.get(id, 0), free.get(id, 0)) for id in back.keys() | free.keys()}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a usage record has its amount."""

    record: Row
    account: Row
    hardware_name: str
    token: Row | None
    prediction: Row | None
    """None where its cause is time of an Instance, or its row is gone."""
    price: Row | None
    unit_prices: dict[str, Row]
    entries: Sequence[Row]
    """Of the ledger: the charge, its waiver, and what corrects it."""
    waived_nanos: int
    refunded_nanos: int
    refundable_nanos: int

    @property
    def discount_nanos(self) -> int:
        """Its share of what the volume of its month gave back; rounded up."""
        rest = self.record.amount_nanos - self.waived_nanos - self.refunded_nanos
        return max(0, rest - self.refundable_nanos)

    @property
    def paid_nanos(self) -> int:
        return self.refundable_nanos


_OF_PREDICTION = [
    Prediction.__table__.c[name]
    for name in (
        "id",
        "status",
        "error",
        "source",
        "failure_code",
        "held_nanos",
        "instance_id",
        "attempt",
        "boot_seconds",
        "setup_seconds",
        "created_at",
        "started_at",
        "completed_at",
        "cached_from",
    )
]


async def find(tx: Transaction, name: str, account_id: str | None = None) -> str:
    """The id of the usage record that somebody means: its own, or that of its prediction. Raises `NotFound`."""
    wanted = select(TABLE.c.id).where(TABLE.c.id.in_([name, f"{PREDICTION}:{name}"]))
    if account_id is not None:
        wanted = wanted.where(TABLE.c.account_id == account_id)
    id = await tx.scalar(wanted.limit(1))
    if id is None:
        raise NotFound(f"No run or stretch of time with the id {name} has been charged.")
    return id


async def explain(tx: Transaction, record_id: str, account_id: str | None = None) -> Explanation:
    """`account_id`: whose it must be. Raises `NotFound`."""
    wanted = select(TABLE).where(TABLE.c.id == record_id)
    record = await tx.first(wanted if account_id is None else wanted.where(TABLE.c.account_id == account_id))
    if record is None:
        raise NotFound(f"There is no usage record {record_id}.")
    entries = await _entries(tx, record_id)
    own = ledger.account(record.account_id)
    sums = {kind: sum(e.amount_nanos for e in entries if e.kind == kind and e.ledger_account == own) for kind in _BACK}
    price_ids = [record.price_id] if not record.units else [line["price_id"] for line in record.units]
    prices = {p.id: p for p in await tx.all(select(Price).where(Price.id.in_([id for id in price_ids if id])))}
    return Explanation(
        record=record,
        account=await tx.one(select(Account).where(Account.id == record.account_id)),
        hardware_name=await tx.scalar(select(Hardware.name).where(Hardware.sku == record.hardware_sku))
        or record.hardware_sku,
        token=await _token(tx, record),
        prediction=await _prediction(tx, record),
        price=prices.get(record.price_id) if record.price_id else None,
        unit_prices=prices,
        entries=entries,
        waived_nanos=sums[ledger.Kind.WAIVER],
        refunded_nanos=sums[ledger.Kind.REFUND],
        refundable_nanos=await refunds.refundable(tx, record),
    )


_BACK = (ledger.Kind.WAIVER, ledger.Kind.REFUND)


async def _entries(tx: Transaction, record_id: str) -> Sequence[Row]:
    of_it = or_(ENTRY.c.transaction_id.in_([record_id, f"{record_id}:waiver"]), ENTRY.c.corrects == record_id)
    return await tx.all(select(ENTRY).where(of_it).order_by(ENTRY.c.created_at, ENTRY.c.id.desc()))


async def _token(tx: Transaction, record: Row) -> Row | None:
    if record.token_id is None:
        return None
    return await tx.first(select(Token.id, Token.name, Token.prefix).where(Token.id == record.token_id))


async def _prediction(tx: Transaction, record: Row) -> Row | None:
    if record.cause_kind != PREDICTION:
        return None
    return await tx.first(select(*_OF_PREDICTION).where(Prediction.id == record.cause_id))
