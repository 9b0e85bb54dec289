"""Money set aside before it is spent: at create, and again while a long run goes on.

A hold is taken from the wallet by one guarded statement, so no interleaving spends what is not there. What a run costs
beyond its hold is not asked for, which is why its runner asks for more in time.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import ColumnElement, Insert, Select, Text, bindparam, case, cast, exists, func, literal, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import BigInteger

from core.database import Transaction
from core.errors import PaymentRequired
from core.money import prices
from core.tables import Instance, Prediction, UsageRecord, Wallet

#: What is held covers at least so much of a run, and after each extension again.
LEAST_SECONDS = 10
#: And at least so much: a thousandth of a dollar.
LEAST_NANOS = 1_000_000
#: Of the latest runs, so many cost no more than what is held at first.
_LATEST_RUNS = 20
_COVERED_SHARE = 0.9

# As `refuse_unfunded()` raises it.
_UNFUNDED = "MR402"
_WITHOUT_LIMIT = 2**62

WALLET = Wallet.__table__


def spendable() -> ColumnElement[int]:
    """What a wallet lets its Account hold now, in nanodollars."""
    limit = func.coalesce(WALLET.c.credit_limit_nanos, literal(_WITHOUT_LIMIT, BigInteger))
    return WALLET.c.balance_nanos + limit - WALLET.c.held_nanos


def funded(inserting: Insert) -> Select:
    """`inserting` with the money its rows name set aside, or neither: a wallet that lacks it refuses the statement.

    A row that was there already holds nothing more.
    """
    created = inserting.cte("created")
    taken = (
        update(WALLET)
        .where(WALLET.c.account_id == created.c.account_id, spendable() >= created.c.held_nanos)
        .values(held_nanos=WALLET.c.held_nanos + created.c.held_nanos)
        .returning(WALLET.c.account_id)
        .cte("taken")
    )
    is_funded = case((exists(select(taken.c.account_id)), True), else_=func.refuse_unfunded())
    return select(*created.c).where(is_funded)


@contextmanager
def refusals() -> Iterator[None]:
    """Makes of the database's refusal ours. Raises `PaymentRequired`."""
    try:
        yield
    except psycopg.Error as error:
        raise PaymentRequired() if error.sqlstate == _UNFUNDED else error from None
    except DBAPIError as error:
        raise PaymentRequired() if getattr(error.orig, "sqlstate", None) == _UNFUNDED else error from None


async def estimate(tx: Transaction, account_id: str, model: str, version_id: str, hardware_sku: str) -> int:
    """What to hold for a run, in nanodollars: what nearly all of the Version's latest runs cost, and no less than a few
    seconds of its Hardware, or one unit of each metric it is priced by."""
    of = {"p_account": account_id, "p_model": model, "p_version": version_id, "p_sku": hardware_sku}
    return int((await tx.execute(_ESTIMATE, of)).scalar_one())


def _estimate() -> Select:
    account_id, model, version_id, sku = (bindparam(f"p_{name}", type_=Text) for name in _OF)
    latest = (
        select(UsageRecord.amount_nanos)
        .where(UsageRecord.version_id == version_id, UsageRecord.cause_kind == "prediction")
        .order_by(UsageRecord.ended_at.desc())
        .limit(_LATEST_RUNS)
        .subquery()
    )
    usual = select(func.percentile_disc(_COVERED_SHARE).within_group(latest.c.amount_nanos)).scalar_subquery()
    _, second = prices.second_of(sku, account_id, func.now())
    unit_prices = prices.standing(prices.MODEL, model, account_id, func.now())
    units = select(func.sum(unit_prices.c.nanos_per_unit)).scalar_subquery()
    least = func.coalesce(units, second * LEAST_SECONDS)
    return select(func.greatest(usual, cast(least, BigInteger), LEAST_NANOS))


_OF = ("account", "model", "version", "sku")
# Built once: that takes longer than to run it.
_ESTIMATE = _estimate()


async def extend(tx: Transaction, prediction_id: str, attempt: int, nanos: int, at_any_rate: bool = False) -> bool:
    """Holds so much more for a running prediction; False: it is no longer this attempt's. Raises `PaymentRequired`.

    `at_any_rate`, where its Account's rule is that what runs may finish: then it is owed.
    """
    running = (
        update(Prediction)
        .where(
            Prediction.id == prediction_id,
            Prediction.attempt == attempt,
            Prediction.completed_at.is_(None),
            Prediction.held_nanos.is_not(None),
        )
        .values(held_nanos=Prediction.held_nanos + nanos)
        .returning(Prediction.account_id)
    )
    row = await tx.first(running)
    if row is not None:
        await _take(tx, row.account_id, nanos, at_any_rate)
    return row is not None


async def extend_instance(tx: Transaction, instance_id: str, nanos: int, at_any_rate: bool = False) -> None:
    """The same for an Instance whose time its owner pays. Raises `PaymentRequired`."""
    held = update(Instance).where(Instance.id == instance_id).values(held_nanos=Instance.held_nanos + nanos)
    row = await tx.one(held.returning(Instance.owner_id))
    await _take(tx, row.owner_id, nanos, at_any_rate)


async def _take(tx: Transaction, account_id: str, nanos: int, at_any_rate: bool) -> None:
    taken = update(WALLET).where(WALLET.c.account_id == account_id).values(held_nanos=WALLET.c.held_nanos + nanos)
    if not at_any_rate:
        taken = taken.where(spendable() >= nanos)
    if not (await tx.execute(taken)).rowcount:
        raise PaymentRequired()
