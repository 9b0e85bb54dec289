"""The time of Instances: counted by their nodes, priced as it passes, charged hour by hour.

A node reports counters that only grow, so a report that is lost, repeated or late changes no sum. What has been
reported waits in `instance_times` until its hour is over, or its Instance: then it becomes usage records. Who pays is
in `core/usage/instance_owners.py`, what is set aside for that in `core/usage/instance_holds.py`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    ColumnElement,
    Insert,
    Select,
    Text,
    Update,
    and_,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from core.database import Transaction, seconds_from_now
from core.lifecycle import LIVE_INSTANCE
from core.money import ledger, postings, prices
from core.tables import Account, Instance, InstanceTime, UsageRecord, Wallet
from core.usage.metering import ACTIVE, IDLE, INSTANCE, SETUP, amount

TIME = InstanceTime.__table__
_INSTANCE = Instance.__table__
_KEY = [column.name for column in TIME.primary_key]
_WITHOUT_PRICE = ""

#: So long after its hour is over, time that was under way may still be added to it.
GRACE_SECONDS = 60.0
#: Closed at once: a tenth of a second's work.
AT_ONCE = 200


class Counters(NamedTuple):
    """How long an Instance has been in each phase since it began, in microseconds. The names of the phases are those
    of usage records."""

    setup: int
    idle: int
    active: int


PHASES = Counters(SETUP, IDLE, ACTIVE)


# --- reporting --------------------------------------------------------------------------------------------------------


async def report(tx: Transaction, counters: Mapping[str, Counters]) -> None:
    """Adds what these Instances have spent since the last report, at the prices of this moment. One statement.

    What has ended, or has no owner who could be charged, is passed over.
    """
    if counters:
        await tx.execute(_report(counters))


def _report(counters: Mapping[str, Counters]) -> Select:
    told = _told(counters)
    locked = _locked(told)
    grown = union_all(*(_grown(locked, phase) for phase in PHASES)).cte("grown")
    return select(literal(1)).add_cte(_counted(locked).cte("counted"), _added(grown).cte("added"))


def _told(counters: Mapping[str, Counters]) -> Any:
    columns = [literal(list(counters), ARRAY(Text))]
    columns += [literal(list(values), ARRAY(BigInteger)) for values in zip(*counters.values(), strict=True)]
    return func.unnest(*columns).table_valued("id", *PHASES, name="told").render_derived()


def _locked(told: Any) -> CTE:
    """Their rows, in one order for everybody who locks more than one: two reports at once add nothing twice."""
    price_id, price = prices.second_of(_INSTANCE.c.hardware_sku, _INSTANCE.c.owner_id, func.now())
    billed = _INSTANCE.c.bills_time
    return (
        select(
            _INSTANCE.c.id,
            *(_counter(_INSTANCE, phase).label(f"{phase}_before") for phase in PHASES),
            *(told.c[phase].label(f"{phase}_after") for phase in PHASES),
            func.coalesce(case((billed, price_id)), _WITHOUT_PRICE).label("price_id"),
            case((billed, price), else_=0).label("price_nanos_per_second"),
        )
        .join(told, told.c.id == _INSTANCE.c.id)
        .where(_INSTANCE.c.status.in_(LIVE_INSTANCE), _INSTANCE.c.owner_id.is_not(None))
        .order_by(_INSTANCE.c.id)
        .with_for_update(of=_INSTANCE, key_share=True)
        .cte("locked")
    )


def _counter(table: Any, phase: str) -> ColumnElement[int]:
    return table.c[f"{phase}_micros"]


def _counted(locked: CTE) -> Update:
    grown = {
        f"{phase}_micros": func.greatest(_counter(_INSTANCE, phase), locked.c[f"{phase}_after"]) for phase in PHASES
    }
    return update(_INSTANCE).where(_INSTANCE.c.id == locked.c.id).values(grown)


def _grown(locked: CTE, phase: str) -> Select:
    before, after = locked.c[f"{phase}_before"], locked.c[f"{phase}_after"]
    return select(
        locked.c.id,
        literal(phase).label("phase"),
        locked.c.price_id,
        locked.c.price_nanos_per_second,
        before.label("from_micros"),
        (after - before).label("micros"),
    ).where(after > before)


def _added(grown: CTE) -> Insert:
    hour = func.date_trunc("hour", func.now(), "UTC")
    columns = [
        "instance_id",
        "phase",
        "price_id",
        "price_nanos_per_second",
        "from_micros",
        "micros",
        "hour",
        "ended_at",
    ]
    adding = upsert(TIME).from_select(columns, select(*grown.c, hour, func.now()))
    sums = {
        "micros": TIME.c.micros + adding.excluded.micros,
        "ended_at": func.greatest(TIME.c.ended_at, adding.excluded.ended_at),
    }
    return adding.on_conflict_do_update(index_elements=_KEY, set_=sums)


# --- closing ----------------------------------------------------------------------------------------------------------


async def close(tx: Transaction) -> int:
    """Makes usage records, charges and postings of what is over, the oldest. Returns how many; `AT_ONCE`: there may be
    more. One statement, so that nothing is taken off without being charged, or charged twice."""
    return await tx.scalar(_CLOSE)


def _close() -> Select:
    taken = _taken().cte("taken")
    closed = _priced(taken).cte("closed")
    usage = _recorded(closed).returning(UsageRecord.id, UsageRecord.account_id, UsageRecord.amount_nanos).cte("usage")
    charged = postings.charged(closed, usage, INSTANCE).cte("charged")
    written = (
        ledger.charge(charged).cte("moved"),
        postings.settles(closed, charged).cte("posted"),
        _less_held(closed).cte("less_held"),
    )
    return select(func.count()).select_from(taken).add_cte(*written)


def _taken() -> Any:
    """Off with what is over, together with what its records copy."""
    copied = ("owner_id", "model", "version_id", "deployment", "hardware_sku", "created_at", "held_nanos")
    is_over = or_(_INSTANCE.c.status.not_in(LIVE_INSTANCE), TIME.c.hour <= seconds_from_now(-3600 - GRACE_SECONDS))
    over = (
        select(*(TIME.c[name] for name in _KEY), *(_INSTANCE.c[name] for name in copied))
        .join(_INSTANCE, _INSTANCE.c.id == TIME.c.instance_id)
        .where(is_over)
        .order_by(TIME.c.instance_id, *_IN_ORDER)
        .limit(AT_ONCE)
        # What a report has in hand is left to the next pass.
        .with_for_update(of=(TIME, _INSTANCE), key_share=True, skip_locked=True)
        .cte("over")
    )
    same = and_(*(TIME.c[name] == over.c[name] for name in _KEY))
    return delete(TIME).where(same).returning(*TIME.c, *(over.c[name] for name in copied))


_IN_ORDER = (TIME.c.hour, TIME.c.phase, TIME.c.price_id)


def _priced(taken: CTE) -> Select:
    """With what each comes to, and its part of what is held for its Instance: null where that may owe without limit."""
    nanos = amount(taken.c.micros, taken.c.price_nanos_per_second)
    before = func.sum(nanos).over(
        partition_by=taken.c.instance_id,
        order_by=[taken.c[column.name] for column in _IN_ORDER],
        rows=(None, -1),
    )
    left = taken.c.held_nanos - func.coalesce(cast(before, BigInteger), 0)
    part = func.greatest(0, func.least(nanos, left))
    return select(
        (taken.c.instance_id + ":" + taken.c.phase + ":" + cast(taken.c.from_micros, Text)).label("id"),
        *(c for c in taken.c if c.name != "held_nanos"),
        taken.c.owner_id.label("account_id"),
        nanos.label("amount_nanos"),
        case((Wallet.credit_limit_nanos.is_not(None), part)).label("held_nanos"),
    ).outerjoin_from(taken, Wallet, Wallet.account_id == taken.c.owner_id)


def _recorded(closed: CTE) -> Insert:
    columns = {
        "id": literal(f"{INSTANCE}:") + closed.c.id,
        "cause_kind": literal(INSTANCE),
        "cause_id": closed.c.id,
        "account_id": closed.c.account_id,
        "account_name": select(Account.username).where(Account.id == closed.c.account_id).scalar_subquery(),
        **{name: closed.c[name] for name in ("model", "version_id", "deployment", "hardware_sku", "phase", "micros")},
        "price_id": func.nullif(closed.c.price_id, _WITHOUT_PRICE),
        "price_nanos_per_second": closed.c.price_nanos_per_second,
        "amount_nanos": closed.c.amount_nanos,
        "day": func.date(func.timezone("UTC", closed.c.hour)),
        # Its time lies somewhere in between.
        "started_at": func.least(func.greatest(closed.c.hour, closed.c.created_at), closed.c.ended_at),
        "ended_at": closed.c.ended_at,
    }
    return insert(UsageRecord).from_select(list(columns), select(*columns.values()))


def _less_held(closed: CTE) -> Update:
    released = func.sum(closed.c.held_nanos).label("nanos")
    by_instance = select(closed.c.instance_id, released).group_by(closed.c.instance_id).having(released > 0).subquery()
    return (
        update(_INSTANCE)
        .where(_INSTANCE.c.id == by_instance.c.instance_id)
        .values(held_nanos=_INSTANCE.c.held_nanos - cast(by_instance.c.nanos, BigInteger))
    )


_CLOSE = _close()
