"""Answers about the calling account: who it is, what it has used, and the Hardware it may pick."""

from datetime import date
from typing import Literal

from pydantic import BaseModel, Field

from api.schemas.common import Url


class AccountResponse(BaseModel):
    """Whom the token speaks for."""

    type: Literal["user", "organization"]
    username: str
    name: str
    github_url: Url | None
    avatar_url: Url | None


class UsageRow(BaseModel):
    """What one Model has used of one Hardware on one day."""

    day: date = Field(description="UTC.")
    model: str = Field(description="`owner/name`.")
    hardware: str = Field(description="SKU.")
    runs: int
    seconds: float = Field(description="Of runs.")
    amount_nanos: int = Field(description="Nanodollars: 10^-9 dollars.")
    amount: str = Field(description="The same in dollars.")


class UsageResponse(BaseModel):
    """What the account has used, newest day first, and what it owes in all."""

    from_: date = Field(alias="from", description="The first day, UTC.")
    to: date = Field(description="The last day, which is today.")
    total_nanos: int = Field(description="What those days cost, in nanodollars.")
    total: str = Field(description="The same in dollars.")
    balance_nanos: int = Field(description="Of all time; below zero: owed.")
    results: list[UsageRow]


class HardwareResponse(BaseModel):
    """A kind of machine."""

    sku: str = Field(description="What requests call it.")
    name: str
