"""Tokens: what one asks for, and what is shown of them."""

from datetime import datetime, timedelta
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from api.schemas.moments import Moment
from core.clock import now
from core.people.tokens import Scope

_LONGEST_SECONDS = 10 * 366 * 24 * 3600

Name = Annotated[str, Field(min_length=1, max_length=200, description="What it is for, to tell it from others.")]


class TokenRequest(BaseModel):
    """A new token. Without an expiry it is valid until it is revoked."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Name
    scopes: list[Annotated[Scope, Field(strict=False)]] | None = Field(
        None, min_length=1, description="What it may do; default: the same as the token that creates it."
    )
    expires_at: Moment | None = Field(None, description="In the future.")
    expires_in_seconds: int | None = Field(None, ge=1, le=_LONGEST_SECONDS, description="Instead of `expires_at`.")

    @model_validator(mode="after")
    def _expires_once_and_later(self) -> Self:
        if self.expires_at is not None and self.expires_in_seconds is not None:
            raise PydanticCustomError("one_of", "Give expires_at or expires_in_seconds, not both")
        if self.expires_at is not None and self.expires_at <= now():
            raise PydanticCustomError("past", "expires_at must be in the future")
        return self

    @property
    def expiry(self) -> datetime | None:
        if self.expires_in_seconds is None:
            return self.expires_at
        return now() + timedelta(seconds=self.expires_in_seconds)


class TokenUpdate(BaseModel):
    """What may change."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Name


class TokenResponse(BaseModel):
    """A token, without what it is made of."""

    id: str
    name: str
    prefix: str = Field(description="The first characters of the token.")
    scopes: list[Scope]
    created_at: datetime
    last_used_at: datetime | None = Field(description="To the minute.")
    expires_at: datetime | None
    revoked_at: datetime | None


class NewTokenResponse(TokenResponse):
    """A token that was just made."""

    token: str = Field(description="The token itself, shown this once: only its hash is kept.")
