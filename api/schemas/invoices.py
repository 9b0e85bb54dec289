"""Invoices, credit notes, and what stands on them about their buyer."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.amounts import PositiveDollars
from api.schemas.billing import Reason
from api.schemas.common import WHOLE, Url
from core.invoices.invoice_totals import PARTS

Text = Annotated[str, Field(max_length=500)]


class InvoiceUrls(BaseModel):
    get: Url
    pdf: Url
    csv: Url


class InvoiceResponse(BaseModel):
    """An invoice of a month, or a credit note that corrects one. Both stay as they are once they are issued."""

    id: str
    kind: Literal["invoice", "credit_note"]
    number: str = Field(description="Without gaps in its series: `INV-2026-000042`.")
    account: str = Field(description="Whose it is, under the name it had then.")
    corrects: str | None = Field(description="Of a credit note: the id of its invoice.")
    month: str = Field(description="`2026-01`, in the account's time zone.", pattern=r"^\d{4}-\d{2}$")
    period_start: datetime
    period_end: datetime = Field(description="The first moment that is not in it.")
    issued_at: datetime
    subtotal_nanos: int = Field(description="To the cent, before tax.")
    subtotal: str
    tax_nanos: int
    tax: str
    total_nanos: int = Field(description="Of a credit note: what is credited. Below zero: more given back than used.")
    total: str
    due_nanos: int = Field(description="What the wallet had not paid when the month ended, and tax.")
    due: str
    urls: InvoiceUrls


class WholeInvoiceResponse(InvoiceResponse):
    """With all that stands on it."""

    document: dict[str, Any] = Field(
        description="Seller, buyer, lines and totals, as they were issued; docs/invoices.md explains each field."
    )
    credit_notes: list[InvoiceResponse] = Field(description="What corrects it, the oldest first.")


class CreditNoteRequest(BaseModel):
    """How much of an invoice was wrong."""

    model_config = ConfigDict(extra="forbid", strict=True)

    amount: PositiveDollars | None = Field(
        None, description="With tax, in whole cents; default: all that has not been credited."
    )
    reason: Reason


class ProfileRequest(BaseModel):
    """What stands on an account's invoices from the next one on. What is left out is emptied."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Text = Field("", description="Of the buyer; default: the name of the account.")
    address: Text = Field("", description="With line breaks.")
    email: Text = ""
    tax_id: Text = ""
    tax_name: Text | None = Field(
        None, description="`VAT`: how the tax is called; set by admins of the server. Default: as it is."
    )
    tax_parts_per_million: Annotated[int, Field(ge=0, le=PARTS), WHOLE] | None = Field(
        None, description="190000 is 19 %; set by admins of the server. Default: as it is."
    )
    locale: Text = Field("en_US", description="How numbers and dates are written: `de_DE`.")
    timezone: Text = Field("UTC", description="Where its months begin and end: `Europe/Berlin`.")


class ProfileResponse(BaseModel):
    """What stands on an account's invoices."""

    account: str
    name: str
    address: str
    email: str
    tax_id: str
    tax_name: str
    tax_parts_per_million: int
    locale: str
    timezone: str
