"""Prices: of a second of a Hardware, of what a Model makes, and what Hardware costs its operator."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.amounts import Dollars
from api.schemas.common import WHOLE
from api.schemas.moments import Moment
from core.money.prices import MOST_UNITS

Units = Annotated[int, Field(ge=0, le=MOST_UNITS), WHOLE]


class StepRequest(BaseModel):
    """Cheaper beyond so many units in a month."""

    model_config = ConfigDict(extra="forbid", strict=True)

    above: Units
    price: Dollars = Field(description="Dollars per unit from there on.")


class PriceRequest(BaseModel):
    """A price from now on, or from a moment to come. What has started keeps the one it started with."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["hardware", "model", "cost"] = Field(
        description="`hardware`: by the second; `model`: by the unit; `cost`: what an hour of hardware costs you."
    )
    subject: str = Field(min_length=1, max_length=200, description="SKU of a hardware, or `owner/name` of a model.")
    metric: str | None = Field(
        None, max_length=100, description="What a model is priced by, under the name under which it records it."
    )
    price: Dollars | None = Field(description="Dollars per unit; null: none from then on, what stood behind it counts.")
    account: str | None = Field(None, max_length=200, description="For this account alone; default: for everybody.")
    free_units: Units = Field(0, description="So many a month cost nothing.")
    steps: list[StepRequest] = Field([], max_length=20)
    effective_from: Moment | None = Field(None, description="Default: now.")
    reason: str | None = Field(None, max_length=1000)


class StepResponse(BaseModel):
    above: int
    nanos_per_unit: int
    price: str


class StandingPriceResponse(BaseModel):
    """What the account pays for one thing now."""

    id: str = Field(description="Usage records name it.")
    kind: str
    subject: str
    metric: str = Field(description="What a unit is: `second`, or what the model counts.")
    nanos_per_unit: int
    price: str = Field(description="The same in dollars.")
    free_units: int = Field(description="So many a month cost nothing.")
    steps: list[StepResponse]
    is_own: bool = Field(description="It is for this account alone.")
    effective_from: datetime


class PriceResponse(BaseModel):
    """A line of the price book."""

    id: str
    kind: str
    subject: str
    metric: str
    account: str | None = Field(description="Whose own it is; null: for everybody.")
    nanos_per_unit: int | None
    price: str | None
    free_units: int
    steps: list[StepResponse]
    effective_from: datetime
    created_by: str
    created_at: datetime
    reason: str | None
