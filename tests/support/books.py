"""An account that used things in months that are over, and a seller who invoices them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Row

from core.database import Transaction
from core.ids import new_id
from core.invoices import billing_profiles, invoicing
from core.invoices.billing_profiles import Profile
from core.resources import Resources
from core.settings import Settings
from tests.support.factories import add_account
from tests.support.past_use import give_back, pay, use

#: Months that are long over, whenever this is run.
JANUARY = datetime(2024, 1, 15, 12, tzinfo=UTC)
FEBRUARY = datetime(2024, 2, 15, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Books:
    """An account, and a seller with a series of numbers that no other test writes."""

    resources: Resources
    settings: Settings
    account: Row

    @asynccontextmanager
    async def tx(self) -> AsyncIterator[Transaction]:
        async with self.resources.database.transaction() as tx:
            yield tx

    async def use(self, *arguments: Any, **fields: Any) -> str:
        async with self.tx() as tx:
            return await use(tx, self.account, *arguments, **fields)

    async def give_back(self, *arguments: Any, **fields: Any) -> None:
        async with self.tx() as tx:
            await give_back(tx, self.account, *arguments, **fields)

    async def pay(self, *arguments: Any) -> None:
        async with self.tx() as tx:
            await pay(tx, self.account, *arguments)

    async def live_in(self, timezone: str, **fields: Any) -> None:
        async with self.tx() as tx:
            await billing_profiles.put(tx, self.account.id, Profile(timezone=timezone, **fields))

    async def issue(self, account_id: str | None = None) -> Row | None:
        async with self.tx() as tx:
            return await invoicing.issue_next(tx, self.settings, account_id or self.account.id)

    async def all(self) -> list[Row]:
        """Every invoice it waits for."""
        issued = []
        while (row := await self.issue()) is not None:
            issued.append(row)
        return issued


@pytest.fixture
async def books(resources: Resources) -> Books:
    prefix = f"T{new_id()[-12:].upper()}"
    seller = {"seller_name": "A seller", "invoice_prefix": prefix, "credit_note_prefix": f"C{prefix}"}
    async with resources.database.transaction() as tx:
        account = await add_account(tx)
    return Books(resources, resources.settings.model_copy(update=seller), account)
