"""What an Account pays now, for everything it may see: the price book, read for one reader."""

from collections.abc import Sequence

from sqlalchemy import Row, Select, func, select, true

from core import catalog
from core.database import Transaction
from core.money import prices
from core.money.prices import HARDWARE, MODEL
from core.tables import Account, Hardware, Model, Price


async def standing(tx: Transaction, account_id: str) -> Sequence[Row]:
    """One row per Hardware, and per metric of each Model with a price of its own; none of Models it may not see."""
    now = func.now()
    hardware = prices.standing(HARDWARE, Hardware.sku, account_id, now).lateral("of_hardware")
    of_hardware = select(*hardware.c).select_from(Hardware).join(hardware, true())
    name = Account.username + "/" + Model.name
    is_priced = select(Price.id).where(Price.kind == MODEL, Price.subject == name).exists()
    model = prices.standing(MODEL, name, account_id, now).lateral("of_model")
    of_models = (
        select(*model.c)
        .select_from(Model)
        .join(Account, Account.id == Model.owner_id)
        .join(model, true())
        .where(is_priced, catalog.is_visible(account_id))
    )
    return [*await tx.all(_ordered(of_hardware)), *await tx.all(_ordered(of_models))]


def _ordered(found: Select) -> Select:
    return found.order_by(*(found.selected_columns[name] for name in ("subject", "metric")))


async def find(tx: Transaction, price_id: str) -> Row | None:
    return await tx.first(select(Price).where(Price.id == price_id))
