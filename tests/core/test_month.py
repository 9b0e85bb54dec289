"""A month of traffic, with everything that happens in one, adds up to the nanodollar."""

from datetime import date

import sqlalchemy as sa

from core.money.reconciliation import differences, totals
from core.resources import open_resources
from core.settings import Settings
from core.tables import LedgerEntry, UsageRecord
from tests.support.money import prove
from tests.support.month import Month, simulated_database


async def test_a_simulated_month_reconciles_to_zero(settings: Settings) -> None:
    with simulated_database(settings.database_url) as url:
        async with open_resources(settings.model_copy(update={"database_url": url})) as resources:
            month = Month(resources)
            await month.pass_by()
            assert await month.do(differences) == []
            await month.do(prove, [account.id for account in month.accounts])
            await everything_happened(month)


async def everything_happened(month: Month) -> None:
    """Or it would have proven little."""
    kinds = {row.kind for row in await month.do(lambda tx: tx.all(sa.select(LedgerEntry.kind).distinct()))}
    assert kinds == {"usage", "waiver", "discount", "refund", "top_up", "promotion", "expiry", "adjustment"}
    assert {
        "payment required",
        "canceled",
        "interrupted",
        "failed",
        "refund refused",
        "hold extended",
    } <= month.happened.keys()
    assert month.happened["succeeded"] > 900
    record = UsageRecord.__table__.c
    days = sa.select(sa.func.count(record.day.distinct()), sa.func.min(record.day))
    assert tuple(await month.do(lambda tx: tx.one(days))) == (30, date(2028, 2, 1)), "leap day and the night after it"
    idle = sa.select(sa.func.sum(record.amount_nanos)).where(record.phase == "idle", record.amount_nanos > 0)
    assert await month.do(lambda tx: tx.scalar(idle)), "somebody paid for idling"
    found = await month.do(totals)
    assert found.ledger_nanos == found.balance_nanos
    assert found.usage_nanos == found.rolled_up_nanos
