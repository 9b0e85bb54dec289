"""Money: the wallet, its credits, the ledger, and what an admin of the server moves by hand."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from api.schemas.amounts import Dollars, PositiveDollars
from api.schemas.common import WHOLE
from api.schemas.moments import Moment

Username = Annotated[str, Field(min_length=1, max_length=200, description="Of the account.")]
Reason = Annotated[
    str, Field(min_length=1, max_length=1000, pattern=r"\S", description="Whoever looks at the bill will ask.")
]


#: Of ASCII, so that every reader of the schema takes for a URL what we take for one.
_URL = r"^https?://([!$&-.0-;=A-Z_a-z~%]+@)?[A-Za-z0-9.-]+(:[0-9]{1,5})?([/?#][!-~]*)?$"


def _webhook_url(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(_URL, value):
        raise PydanticCustomError("format", "Must be an http(s) URL, in ASCII")
    return value


WebhookUrl = Annotated[str, BeforeValidator(_webhook_url), Field(max_length=4000, json_schema_extra={"pattern": _URL})]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class CreditRequest(_Body):
    """Money for an account: paid outside of this server, or given."""

    account: Username
    amount: PositiveDollars
    kind: Literal["paid", "promotional"]
    reason: Reason
    expires_at: Moment | None = Field(None, description="What is left then is taken away; default: never.")
    priority: Annotated[int, Field(ge=0, le=1000), WHOLE] | None = Field(
        None, description="The lowest is used first; default: 50 if promotional, 100 if paid."
    )


class AdjustmentRequest(_Body):
    """Money taken out of a wallet: a slip put right, or a payment that went back."""

    account: Username
    amount: PositiveDollars
    reason: Reason
    may_owe: bool = Field(False, description="Take it even where it is not there any more; then it is owed.")


class RefundRequest(_Body):
    """What a prediction was charged, given back."""

    prediction: str = Field(min_length=1, max_length=100, description="Its id.")
    amount: PositiveDollars | None = Field(None, description="Default: all that has not been given back yet.")
    reason: Reason


class TermsRequest(_Body):
    """How an account pays."""

    account: Username
    credit_limit: Dollars | None = Field(description="What it may owe: 0 is prepaid, null without limit.")
    when_empty: Literal["stop", "finish"] = Field(
        "stop", description="`stop`: what runs is canceled once the money is used up; `finish`: it ends, and is owed."
    )
    low_balance: Dollars | None = Field(None, description="Below this its owner is told.")


class LimitRequest(_Body):
    """What may be spent in a calendar month, UTC."""

    scope: Literal["account", "token", "model"]
    subject: str = Field("", max_length=300, description="Id of the token, or `owner/name` of the model.")
    limit: Dollars
    thresholds: list[Annotated[int, Field(ge=1, le=1000), WHOLE]] = Field(
        [50, 80, 100], max_length=20, description="Percentages of it at which its owner is told."
    )
    stops: bool = Field(True, description="Nothing new starts once it is reached; else its owner is only told.")


class WebhookRequest(_Body):
    """Where alerts are sent."""

    url: WebhookUrl | None = Field(description="Null: nowhere.")


class AlertResponse(BaseModel):
    """Something about money that its owner is told."""

    id: str
    kind: str = Field(description="`spend_limit`, `low_balance`, `insufficient_funds`, `recharge_failed`, …")
    message: str
    details: dict[str, object]
    created_at: datetime
    seen_at: datetime | None


class TermsResponse(BaseModel):
    """How an account pays."""

    credit_limit_nanos: int | None = Field(description="0: prepaid; null: without limit.")
    credit_limit: str | None
    when_empty: Literal["stop", "finish"]
    low_balance_nanos: int | None
    low_balance: str | None


class WalletResponse(BaseModel):
    """What an account has, this moment."""

    account: str
    balance_nanos: int = Field(description="Below zero: owed.")
    balance: str
    held_nanos: int = Field(description="Set aside for what waits and runs.")
    held: str
    spendable_nanos: int | None = Field(description="What may still be started with; null: without limit.")
    spendable: str | None
    terms: TermsResponse
    webhook: str | None = Field(description="Where alerts are sent.")
    alerts: list[AlertResponse] = Field(description="Those that nobody has marked as seen, newest first; at most 20.")


class CreditResponse(BaseModel):
    """Money put into a wallet, as one piece with its own conditions."""

    id: str
    account: str
    kind: Literal["paid", "promotional", "refund"]
    amount_nanos: int
    amount: str
    remaining_nanos: int
    remaining: str
    expired_nanos: int
    expired: str
    priority: int = Field(description="The lowest is used first; then what expires soonest; then the oldest.")
    expires_at: datetime | None
    reason: str
    actor: str = Field(description="Who put it in.")
    created_at: datetime


class About(BaseModel):
    """What an entry is about."""

    type: Literal["prediction", "instance", "credit"]
    id: str


class LedgerEntryResponse(BaseModel):
    """One movement of an account's money."""

    id: str
    transaction: str
    kind: str = Field(description="What moved it, like `usage` or `refund`; docs/billing.md explains each.")
    amount_nanos: int = Field(description="Above zero: into the wallet.")
    amount: str
    counterpart: str | None = Field(description="The other side of the transaction.")
    about: About | None
    corrects: str | None = Field(description="The transaction that this one puts right.")
    actor: str | None = Field(description="Who moved it by hand, or the rule that did; null: a charge.")
    reason: str | None
    created_at: datetime


class LimitResponse(BaseModel):
    """What may be spent in a calendar month, and what has been."""

    id: str
    scope: Literal["account", "token", "model"]
    subject: str
    limit_nanos: int
    limit: str
    spent_nanos: int = Field(description="This month, as of the last fold.")
    spent: str
    thresholds: list[int]
    stops: bool
    created_at: datetime


class WebhookResponse(BaseModel):
    """Where alerts are sent."""

    url: str | None
