"""Top-ups by card and the saved payment method: what one asks for, and what is shown of them."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from core.money.pricing import nanos
from core.payments.payments import TopUpKind, TopUpStatus

_PATH = r"^/($|[A-Za-z0-9._~%?#=&-][A-Za-z0-9._~%?#=&/-]*$)"

Dollars = Annotated[
    str, Field(pattern=r"^[0-9]{1,5}(\.[0-9]{1,2})?$", description="In whole cents.", examples=["25", "99.50"])
]
Path = Annotated[str, Field(max_length=500, pattern=_PATH)]


class TopUpRequest(BaseModel):
    """A top-up of 5 to 10000 dollars, which is paid on the page whose `url` is answered."""

    model_config = ConfigDict(extra="forbid", strict=True)

    amount: Dollars | None = Field(None, description="Dollars, in whole cents.")
    amount_nanos: int | None = Field(None, gt=0, description="Billionths of a dollar, instead of `amount`.")
    success_path: Path = Field("/account/billing", description="Where on this server the page leads once it is paid.")
    cancel_path: Path = Field("/account/billing", description="And where if it is not.")

    @model_validator(mode="after")
    def _has_one_amount(self) -> Self:
        if (self.amount is None) == (self.amount_nanos is None):
            raise PydanticCustomError("one_of", "Give amount or amount_nanos, one of them")
        return self

    @property
    def nanos(self) -> int:
        return nanos(self.amount) if self.amount_nanos is None else self.amount_nanos


class TopUpResponse(BaseModel):
    """Money on its way into the wallet, or arrived there."""

    id: str
    kind: TopUpKind = Field(description="`checkout`: paid on a page. `recharge`: by the saved method, by itself.")
    status: TopUpStatus
    amount: str = Field(description="Dollars.")
    amount_nanos: int
    provider: str
    failure: str | None
    created_at: datetime
    completed_at: datetime | None


class NewTopUpResponse(TopUpResponse):
    """A top-up that is to be paid."""

    url: str = Field(description="The page on which it is paid, within an hour.")


class RechargeRequest(BaseModel):
    """When the saved method is charged by itself, and up to what."""

    model_config = ConfigDict(extra="forbid", strict=True)

    recharge_below: Dollars = Field(description="Once less than this is left: 5 dollars or more.")
    recharge_to: Dollars = Field(description="So much is there then: 15 dollars or more, and 5 more than the other.")


class PaymentMethodResponse(BaseModel):
    """How the account pays by card. The card itself is with the provider."""

    provider: str | None = Field(description="Null before the first top-up by card, which saves the card.")
    label: str | None = Field(description="`visa 4242`; null: none is saved.")
    recharge_below: str | None = Field(description="Dollars; null: nothing is charged by itself.")
    recharge_to: str | None
    paused_until: datetime | None = Field(description="After a decline, nothing is charged by itself before this.")
