"""Spend limits: what may go in a month, by Account, Token or Model; and who is told when how much of it has.

Counted from the roll-ups at each fold, so a limit that `stops` is noticed about a second after it is reached: what was
created until then runs. What must never be passed is the wallet's credit limit, which is held, not counted.
"""

from collections.abc import Collection, Sequence
from datetime import date
from typing import Any

from sqlalchemy import Row, and_, delete, func, insert, or_, select, update

from core.clock import now
from core.database import Transaction, one_of
from core.errors import Invalid, NotFound
from core.ids import new_id
from core.money import alerts
from core.money.pricing import dollars
from core.people import audit
from core.tables import SpendLimit, UsageDay, UsageHour

TABLE = SpendLimit.__table__
ACCOUNT, TOKEN, MODEL = SCOPES = ("account", "token", "model")
DEFAULT_THRESHOLDS = (50, 80, 100)
_MOST = 100


async def put(
    tx: Transaction,
    account_id: str,
    *,
    scope: str,
    limit_nanos: int,
    subject: str = "",
    thresholds: Sequence[int] = DEFAULT_THRESHOLDS,
    stops: bool = True,
    id: str | None = None,
) -> Row:
    """A limit from now on, for this month as well. Raises `Invalid`."""
    if scope not in SCOPES or bool(subject) == (scope == ACCOUNT):
        raise Invalid("A limit is for the `account`, or for one `token` or `model`, which `subject` names.")
    if limit_nanos < 0 or not all(0 < threshold <= 1000 for threshold in thresholds):
        raise Invalid("A limit is no less than 0, and thresholds are percentages from 1 to 1000.")
    if (await tx.scalar(select(func.count()).where(TABLE.c.account_id == account_id))) >= _MOST:
        raise Invalid(f"An account has at most {_MOST} limits; remove one first.")
    values = {"scope": scope, "subject": subject, "limit_nanos": limit_nanos, "stops": stops}
    values["thresholds"] = sorted(set(thresholds))
    row = await tx.one(insert(TABLE).values(id=id or new_id(), account_id=account_id, **values).returning(TABLE))
    await audit.record(tx, "spend_limit.create", f"spend_limit:{row.id}", account_id=account_id, after=values)
    await watch(tx, [account_id])
    return row


async def remove(tx: Transaction, account_id: str, limit_id: str) -> None:
    """Raises `NotFound`."""
    removing = delete(TABLE).where(TABLE.c.id == limit_id, TABLE.c.account_id == account_id).returning(TABLE)
    row = await tx.first(removing)
    if row is None:
        raise NotFound("The requested spend limit could not be found.")
    before = {"scope": row.scope, "subject": row.subject, "limit_nanos": row.limit_nanos, "stops": row.stops}
    await audit.record(tx, "spend_limit.delete", f"spend_limit:{limit_id}", account_id=account_id, before=before)


async def of_account(tx: Transaction, account_id: str) -> Sequence[Row]:
    return await tx.all(select(TABLE).where(TABLE.c.account_id == account_id).order_by(TABLE.c.created_at))


async def reached(tx: Transaction, account_id: str) -> Sequence[Row]:
    """The Account's limits that stop what is new, this month."""
    stops = (TABLE.c.stops, TABLE.c.month == _this_month(), TABLE.c.spent_nanos >= TABLE.c.limit_nanos)
    return await tx.all(select(TABLE).where(TABLE.c.account_id == account_id, *stops))


def applies(limit: Row, token_id: str | None, model: str) -> bool:
    return limit.scope == ACCOUNT or limit.subject == (token_id if limit.scope == TOKEN else model)


def explain(limit: Row) -> str:
    of = "" if limit.scope == ACCOUNT else f" for the {limit.scope} {limit.subject}"
    return (
        f"The monthly spend limit of {dollars(limit.limit_nanos)} dollars{of} has been reached. "
        "Raise it, or wait until the next month begins (UTC)."
    )


async def watch(tx: Transaction, accounts: Collection[str]) -> None:
    """Counts anew what these Accounts' limits are at, and tells owners which thresholds were passed."""
    for limit in await tx.all(select(TABLE).where(one_of(TABLE.c.account_id, accounts)).order_by(TABLE.c.id)):
        spent, month = await _spent(tx, limit), _this_month()
        await tx.execute(update(TABLE).where(TABLE.c.id == limit.id).values(spent_nanos=spent, month=month))
        for threshold in limit.thresholds:
            if spent * 100 >= limit.limit_nanos * threshold and spent:
                await _tell(tx, limit, threshold, spent, month)


async def _tell(tx: Transaction, limit: Row, threshold: int, spent: int, month: date) -> None:
    of = "" if limit.scope == ACCOUNT else f" ({limit.scope} {limit.subject})"
    stopped = " Nothing new starts this month." if limit.stops and spent >= limit.limit_nanos else ""
    await alerts.tell(
        tx,
        limit.account_id,
        "spend_limit",
        f"{threshold} % of the monthly spend limit of {dollars(limit.limit_nanos)} dollars{of} are used.{stopped}",
        {"limit_id": limit.id, "threshold": threshold, "spent_nanos": spent, "limit_nanos": limit.limit_nanos},
        id=f"{limit.id}:{month:%Y-%m}:{threshold}",
    )


async def _spent(tx: Transaction, limit: Row) -> int:
    month = _this_month()
    if limit.scope == TOKEN:
        hours = UsageHour.__table__
        of = and_(hours.c.token_id == limit.subject, hours.c.hour >= month)
        return await _sum(tx, hours, limit, of)
    days = UsageDay.__table__
    of = or_(limit.scope == ACCOUNT, days.c.model == limit.subject)
    return await _sum(tx, days, limit, and_(days.c.day >= month, of))


async def _sum(tx: Transaction, table: Any, limit: Row, of: Any) -> int:
    total = select(func.coalesce(func.sum(table.c.amount_nanos), 0))
    return int(await tx.scalar(total.where(table.c.account_id == limit.account_id, of)))


def _this_month() -> date:
    return now().date().replace(day=1)
