"""What a filter offers to choose from. Suggestions only: anything may be typed.

An admin is offered what there is in the catalogue, an Account what it has used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Row, select

from api.web.billing.place import Place
from core.database import Transaction
from core.people import tokens
from core.reports import balances
from core.reports.usage import DAYS
from core.tables import Account, Deployment, Hardware, Model

_MOST = 300


@dataclass(frozen=True, slots=True)
class Options:
    accounts: Sequence[str]
    models: Sequence[str]
    deployments: Sequence[str]
    hardware: Sequence[tuple[str, str]]
    tokens: Sequence[Row]
    """Of the one Account that was chosen."""

    @property
    def token_choices(self) -> list[tuple[str, str]]:
        return [(row.id, f"{row.name} ({row.prefix}…)") for row in self.tokens]


async def options(tx: Transaction, place: Place) -> Options:
    account_id = place.filter.account
    hardware = await tx.all(select(Hardware.sku, Hardware.name).order_by(Hardware.name))
    return Options(
        accounts=await balances.suggestions(tx, _MOST) if place.is_admin else [],
        models=await _names(tx, place, Model, "model"),
        deployments=await _names(tx, place, Deployment, "deployment"),
        hardware=[(row.sku, row.name) for row in hardware],
        tokens=await tokens.list_page(tx, account_id, _MOST) if account_id else [],
    )


async def _names(tx: Transaction, place: Place, table: type[Model] | type[Deployment], column: str) -> list[str]:
    if place.is_admin:
        owned = select(Account.username, table.name).join(Account, Account.id == table.owner_id)
        rows = await tx.all(owned.order_by(Account.username, table.name).limit(_MOST))
        return [f"{row.username}/{row.name}" for row in rows]
    name = DAYS.c[column]
    used = select(name).where(DAYS.c.account_id == place.filter.account, DAYS.c.day >= place.filter.first, name != "")
    return [row[0] for row in await tx.all(used.distinct().order_by(name).limit(_MOST))]
