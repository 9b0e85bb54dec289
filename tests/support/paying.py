"""Accounts that pay by card, a stand-in for Stripe they pay at, and what is in their wallets after that."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, func, select, update

from core.database import seconds_from_now
from core.ids import new_id
from core.money import ledger, wallets
from core.money.pricing import NANOS_PER_DOLLAR
from core.payments import paying, payment_methods, payments
from core.payments.stripe_payments import StripePayments
from core.resources import Resources
from core.settings import Settings
from core.tables import Account, Alert, Credit, LedgerEntry, PaymentMethod, TopUp
from tests.support.factories import add_account
from tests.support.stand_ins.stripe import KEY, WEBHOOK_SECRET, StripeStandIn, running_stripe

CENT = NANOS_PER_DOLLAR // 100


def dollars(amount: float) -> int:
    """In nanodollars."""
    return round(amount * 100) * CENT


def settings_for(settings: Settings, stripe: StripeStandIn) -> Settings:
    keys = {"stripe_secret_key": KEY, "stripe_webhook_secret": WEBHOOK_SECRET, "stripe_api_url": stripe.url}
    return settings.model_copy(update=keys)


@dataclass
class Till:
    """The verbs of `core.payments.paying` with their arguments, and what is to be seen of them."""

    resources: Resources
    stripe: StripeStandIn
    provider: StripePayments

    @property
    def database(self) -> Any:
        return self.resources.database

    async def account(self, is_admin: bool = False) -> Row:
        async with self.database.transaction() as tx:
            row = await add_account(tx)
            if is_admin:
                await tx.execute(update(Account).where(Account.id == row.id).values(is_admin=True))
        return row

    async def checkout(self, account: Row, amount: float, id: str | None = None) -> Row:
        """A top-up whose page is open; its reference is the page's."""
        row, _ = await paying.checkout(
            self.database, self.provider, account, id or new_id(), dollars(amount), "http://x/yes", "http://x/no"
        )
        return await self.top_up(row.id)

    async def hear(self, event: dict[str, Any]) -> None:
        await paying.hear(self.database, self.provider, self.provider.read(*self.stripe.signed(event)))

    async def hear_everything(self) -> None:
        for event in list(self.stripe.events):
            await self.hear(event)

    async def recharge(self, account: Row) -> None:
        await paying.recharge(self.database, self.provider, account.id)

    async def settle(self, account: Row) -> None:
        """As if everything pending were old enough."""
        await paying.settle(self.database, self.provider, account.id, 0)

    async def saved(self, below: float | None = 10, to: float | None = 50) -> Row:
        """An account that has topped up the least there is, has spent that, and recharges by itself."""
        account = await self.account()
        top_up = await self.checkout(account, 5)
        self.stripe.pay(top_up.reference)
        await self.hear_everything()
        async with self.database.transaction() as tx:
            await payment_methods.set_recharge(tx, account.id, dollars(below), dollars(to))
            await wallets.add(tx, account.id, -dollars(5))
        return account

    async def age(self, top_up_id: str, seconds: float) -> None:
        async with self.database.transaction() as tx:
            aged = update(TopUp).where(TopUp.id == top_up_id).values(created_at=seconds_from_now(-seconds))
            await tx.execute(aged)

    async def resume(self, account: Row) -> None:
        """As if the pause after a decline were over, and the top-ups so far long ago."""
        async with self.database.transaction() as tx:
            await tx.execute(
                update(PaymentMethod).where(PaymentMethod.account_id == account.id).values(paused_until=func.now())
            )
            own = update(TopUp).where(TopUp.account_id == account.id)
            await tx.execute(own.values(created_at=seconds_from_now(-3000)))

    # --- looking ---

    async def top_up(self, id: str) -> Row:
        [row] = await self.rows(TopUp, TopUp.id == id)
        return row

    async def recharges(self, account: Row) -> list[Row]:
        """The oldest first."""
        rows = await self.rows(TopUp, TopUp.account_id == account.id, TopUp.kind == payments.TopUpKind.RECHARGE)
        return sorted(rows, key=lambda row: row.created_at)

    async def balance(self, account: Row) -> int:
        async with self.database.autocommit() as tx:
            return (await wallets.get(tx, account.id)).balance_nanos

    async def paid_in(self, account: Row) -> int:
        """What the ledger says has come in from Stripe, less what went back, in cents."""
        cash, own = ledger.cash("stripe"), ledger.account(account.id)
        transactions = select(LedgerEntry.transaction_id).where(LedgerEntry.ledger_account == own)
        moved = select(func.coalesce(func.sum(LedgerEntry.amount_nanos), 0)).where(
            LedgerEntry.ledger_account == cash, LedgerEntry.transaction_id.in_(transactions)
        )
        async with self.database.autocommit() as tx:
            return -int(await tx.scalar(moved)) // CENT

    async def credits(self, account: Row) -> list[Row]:
        return await self.rows(Credit, Credit.account_id == account.id)

    async def alerts(self, account: Row) -> list[Row]:
        return await self.rows(Alert, Alert.account_id == account.id)

    async def method(self, account: Row) -> Row:
        async with self.database.transaction() as tx:
            return await payment_methods.lock(tx, account.id)

    async def rows(self, table: type, *conditions: Any) -> list[Row]:
        async with self.database.autocommit() as tx:
            return list(await tx.all(select(*table.__table__.c).where(*conditions)))


@asynccontextmanager
async def open_till(resources: Resources) -> AsyncIterator[Till]:
    async with running_stripe() as stripe:
        # No second tries, so that what a test has fail fails.
        provider = StripePayments(settings_for(resources.settings, stripe), retries=0)
        try:
            yield Till(resources, stripe, provider)
        finally:
            await provider.close()
