"""A quick look at whether the books agree: today's usage against its roll-up, and wallets against credits.

Cheap enough for every page. The whole proof is `core/money/reconciliation.py`.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from core.database import Transaction
from core.money.holds import WALLET
from core.reports.totals import total
from core.reports.usage import DAYS
from core.tables import Credit, WalletPosting

_POSTING = WalletPosting.__table__


@dataclass(frozen=True, slots=True)
class Quick:
    balance_nanos: int
    """Of all wallets, with what is yet to be added up."""
    above_zero_nanos: int
    """Of those that have something, as far as it is added up."""
    credit_nanos: int
    """What is left of all credits: the same."""
    waiting: int
    """Postings that are yet to be added up."""
    runs_today: int
    charged_today_nanos: int
    at: datetime

    @property
    def agrees(self) -> bool:
        return self.above_zero_nanos == self.credit_nanos


async def quick(tx: Transaction, now: datetime) -> Quick:
    # One statement for what must be of one moment.
    left = select(total(Credit.remaining_nanos)).scalar_subquery()
    above = select(total(func.greatest(WALLET.c.balance_nanos, 0))).scalar_subquery()
    balance = select(total(WALLET.c.balance_nanos)).scalar_subquery()
    pending = select(total(_POSTING.c.amount_nanos)).scalar_subquery()
    waiting = select(func.count()).select_from(_POSTING).scalar_subquery()
    row = await tx.one(select(balance + pending, above, left, waiting))
    today = select(total(DAYS.c.runs), total(DAYS.c.amount_nanos)).where(DAYS.c.day == now.date())
    return Quick(*row, *await tx.one(today), now)
