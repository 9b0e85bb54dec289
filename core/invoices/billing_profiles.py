"""What stands on an Account's invoices about its buyer, and how its numbers and months are written."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as upsert

from core.database import Transaction
from core.errors import Invalid
from core.invoices import localized
from core.invoices.invoice_totals import PARTS
from core.people import audit
from core.tables import BillingProfile

TABLE = BillingProfile.__table__
_MOST_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Profile:
    """What an Account has that has said nothing."""

    name: str = ""
    address: str = ""
    email: str = ""
    tax_id: str = ""
    tax_name: str = ""
    tax_parts_per_million: int = 0
    locale: str = "en_US"
    timezone: str = "UTC"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


#: Of the law, and of the operator: no buyer sets them.
TAX_TERMS = ("tax_name", "tax_parts_per_million")
_NAMES = [field.name for field in fields(Profile)]


async def get(tx: Transaction, account_id: str) -> Profile:
    row = await tx.first(select(*(TABLE.c[name] for name in _NAMES)).where(TABLE.c.account_id == account_id))
    return Profile() if row is None else Profile(*row)


async def put(tx: Transaction, account_id: str, profile: Profile) -> Profile:
    """From the next invoice on; those that are issued stay as they are. Raises `Invalid`."""
    values = _checked(profile)
    before = await get(tx, account_id)
    putting = upsert(TABLE).values(account_id=account_id, **values)
    await tx.execute(putting.on_conflict_do_update(index_elements=["account_id"], set_=values))
    await audit.record_change(
        tx,
        "billing_profile.update",
        f"account:{account_id}",
        account_id=account_id,
        before=before.as_dict(),
        after=values,
    )
    return Profile(**values)


def _checked(profile: Profile) -> dict[str, Any]:
    values = {name: value.strip() if isinstance(value, str) else value for name, value in profile.as_dict().items()}
    if any(len(value) > _MOST_CHARACTERS for value in values.values() if isinstance(value, str)):
        raise Invalid(f"A field of a billing profile has at most {_MOST_CHARACTERS} characters.")
    if not 0 <= profile.tax_parts_per_million <= PARTS:
        raise Invalid(f"A tax is between 0 and {PARTS} parts per million, which is all of it.")
    if profile.tax_parts_per_million and not values["tax_name"]:
        raise Invalid("A tax needs a name, like VAT, under which it stands on invoices.")
    try:
        values["locale"] = localized.locale_of(profile.locale)
        values["timezone"] = localized.timezone_of(profile.timezone)
    except ValueError as error:
        raise Invalid(str(error)) from None
    return values
