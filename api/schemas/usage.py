"""What was used: sums, and the records behind them."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import MISSING, BaseModel, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

_DAY = timedelta(days=1)


def _moment(value: Any, of_day: timedelta) -> datetime:
    """A day begins at `of_day`; a moment is what it says, with its time zone."""
    try:
        moment = datetime.fromisoformat(value)
        if len(value) == len("2026-01-31"):
            return moment.replace(tzinfo=UTC) + of_day
        if moment.tzinfo is None:
            raise ValueError
        return moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise PydanticCustomError(
            "format", "Must be a day like 2026-01-31, or a moment with a time zone like 2026-01-31T12:00:00Z"
        ) from None


def _since(value: Any) -> datetime:
    return _moment(value, timedelta(0))


def _until(value: Any) -> datetime:
    return _moment(value, _DAY)


_TEXT = WithJsonSchema({"type": "string", "examples": ["2026-01-31", "2026-01-31T12:00:00Z"]})
Since = Annotated[datetime, BeforeValidator(_since), _TEXT]
Until = Annotated[datetime, BeforeValidator(_until), _TEXT]


class UsageSum(BaseModel):
    """What was used in one stretch of time, by the keys that were asked for; others are absent."""

    start: datetime | MISSING = Field(MISSING, description="Of its hour, day or month, UTC; with `by`.")
    account: str | MISSING = Field(MISSING, description="Username.")
    model: str | MISSING = MISSING
    version: str | MISSING = MISSING
    deployment: str | None | MISSING = Field(MISSING, description="Null: sent to none.")
    hardware: str | MISSING = MISSING
    token: str | None | MISSING = Field(MISSING, description="Id of the token.")
    phase: str | MISSING = Field(MISSING, description="`setup`, `idle` or `active`.")
    outcome: str | None | MISSING = Field(MISSING, description="How runs ended; null: time of instances.")
    tag: str | None | MISSING = Field(MISSING, description="Value of the tag that was grouped by; null: without it.")
    runs: int
    seconds: float = Field(description="Of runs.")
    instance_seconds: float = Field(description="Of instances, which runs are part of.")
    amount_nanos: int = Field(description="Charged; volume discounts and refunds are in the ledger.")
    amount: str = Field(description="The same in dollars.")
    cost_nanos: int | None | MISSING = Field(
        MISSING,
        description="What the hardware cost meanwhile; for admins of the server. Null: by tag, it is not known.",
    )
    cost: str | None | MISSING = MISSING
    margin_nanos: int | None | MISSING = Field(MISSING, description="The amount, less the cost.")
    margin: str | None | MISSING = MISSING


class Freshness(BaseModel):
    """How far the sums go."""

    folded_until: datetime = Field(description="All that ended before is in them.")
    pending: int = Field(description="Records that will be in them in a second or so.")


class UsageSumsResponse(BaseModel):
    """Sums of usage, newest first, and the dearest first of each moment."""

    from_: datetime = Field(alias="from")
    to: datetime = Field(description="Excluded.")
    total_nanos: int
    total: str
    freshness: Freshness
    results: list[UsageSum]


class UnitLine(BaseModel):
    """What a run made of something its model is priced by."""

    metric: str
    quantity: float
    price_id: str | None
    nanos_per_unit: int
    amount_nanos: int


class UsageRecordResponse(BaseModel):
    """What one run used, or an instance in one stretch of time, and what that was charged."""

    id: str
    prediction: str | None = Field(description="Null: it is time of an instance.")
    account: str
    model: str
    version: str
    deployment: str | None
    hardware: str
    token: str | None
    phase: str
    outcome: str | None
    failure_code: str | None
    tags: dict[str, str]
    started_at: datetime | None
    ended_at: datetime
    seconds: float
    price_per_second: str
    price_id: str | None
    units: list[UnitLine] | None = Field(description="Where the model is priced by what it makes, instead of seconds.")
    amount_nanos: int
    amount: str
