"""Invoices are made: one for each month that an Account used something in, once that month is over and added up.

`issue_next` may be called by anybody, at any time and as often as they like: a lock on the Account makes two take
turns, the unique key (Account, month) refuses a second invoice, and all of it is one transaction.
"""

from datetime import timedelta

from sqlalchemy import Row, Select, exists, func, literal_column, or_, select, true

from core.database import Transaction
from core.ids import new_id
from core.invoices import billing_profiles, invoice_documents, invoice_lines, invoice_register
from core.invoices.billing_months import Period, next_period
from core.invoices.billing_profiles import Profile
from core.invoices.invoice_totals import totals
from core.invoices.invoices import INVOICE, TABLE
from core.settings import Settings
from core.tables import Account, BillingProfile, Instance, InstanceTime, UsageRecord, Wallet, WalletPosting

#: So long after its end a month is left alone: whatever was being written then is written or lost.
GRACE = timedelta(hours=1)
#: Adding up a month of ten million records.
_STATEMENT_TIMEOUT = "10min"
_EVER = literal_column("'-infinity'::timestamptz")


def is_on(settings: Settings) -> bool:
    """Without a seller nothing is sold, and nobody gets an invoice."""
    return bool(settings.seller_name.strip())


async def due(tx: Transaction) -> list[str]:
    """The Accounts with a month that is over and waits for its invoice."""
    now = await tx.scalar(select(func.now()))
    return [row.id for row in await tx.all(_candidates()) if _period(row).end + GRACE <= now]


def _candidates() -> Select:
    """Accounts with the first use that no invoice has, and what their last invoice covers."""
    last = (
        select(TABLE.c.month, TABLE.c.period_end)
        .where(TABLE.c.account_id == Account.id, TABLE.c.kind == INVOICE)
        .order_by(TABLE.c.month.desc())
        .limit(1)
        .lateral("last")
    )
    first = (
        select(UsageRecord.ended_at)
        .where(
            UsageRecord.account_id == Account.id,
            UsageRecord.ended_at >= func.coalesce(last.c.period_end, _EVER),
            invoice_lines.is_billed(),
        )
        .order_by(UsageRecord.ended_at)
        .limit(1)
        .lateral("first")
    )
    timezone = func.coalesce(BillingProfile.timezone, Profile().timezone).label("timezone")
    return (
        select(Account.id, timezone, last.c.month, last.c.period_end, first.c.ended_at.label("first_use"))
        .outerjoin_from(Account, BillingProfile, BillingProfile.account_id == Account.id)
        .outerjoin(last, true())
        .join(first, true())
        .order_by(Account.id)
    )


def _period(row: Row) -> Period:
    return next_period(row.first_use, row.timezone, row.month, row.period_end)


async def issue_next(tx: Transaction, settings: Settings, account_id: str) -> Row | None:
    """The invoice of the earliest month that waits for one; None: none is ready, or somebody else is at it."""
    if not is_on(settings) or not await _take_turn(tx, account_id):
        return None
    row = await tx.first(_candidates().where(Account.id == account_id))
    if row is None or not await _is_closed(tx, account_id, _period(row)):
        return None
    return await _issue(tx, settings, account_id, _period(row), row)


async def _take_turn(tx: Transaction, account_id: str) -> bool:
    """Nobody else makes an invoice of this Account until the end of the transaction."""
    key = func.hashtextextended(f"invoice:{account_id}", 0)
    return bool(await tx.scalar(select(func.pg_try_advisory_xact_lock(key))))


async def _is_closed(tx: Transaction, account_id: str, period: Period) -> bool:
    """Whether nothing more can come to the month: it is over, and all that ended in it is added up."""
    unfolded = exists().where(
        WalletPosting.account_id == account_id,
        WalletPosting.usage_record_id == UsageRecord.id,
        UsageRecord.ended_at < period.end,
    )
    unmetered = exists().where(
        InstanceTime.instance_id == Instance.id, Instance.owner_id == account_id, InstanceTime.ended_at < period.end
    )
    is_open = or_(func.now() < period.end + GRACE, unfolded, unmetered)
    return not await tx.scalar(select(is_open))


async def _issue(tx: Transaction, settings: Settings, account_id: str, period: Period, last: Row) -> Row:
    await tx.execute(select(func.set_config("statement_timeout", _STATEMENT_TIMEOUT, True)))
    lines = await invoice_lines.usage(tx, account_id, period)
    lines += await invoice_lines.given_back(tx, account_id, period, since=last.period_end)
    owed = await invoice_lines.owed_at(tx, account_id, period.end)
    given = await invoice_lines.promotional_used(tx, account_id, period)
    profile = await billing_profiles.get(tx, account_id)
    joined = select(Account, Wallet.credit_limit_nanos).join(Wallet, Wallet.account_id == Account.id)
    account = await tx.one(joined.where(Account.id == account_id))
    sums = totals(sum(line["amount_nanos"] for line in lines), profile.tax_parts_per_million, owed, given)
    return await invoice_register.enter(
        tx,
        settings.invoice_prefix,
        invoice_documents.invoice(settings, account, profile, period, lines, sums),
        id=new_id(),
        account_id=account_id,
        month=period.month,
        period_start=period.start,
        period_end=period.end,
    )
