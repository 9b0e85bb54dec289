"""Events of the audit log."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field


class ExportFormat(StrEnum):
    """How an export is written: one JSON object a line, or a table."""

    JSONL = "jsonl"
    CSV = "csv"


class AuditEventResponse(BaseModel):
    """One deed: who, what, from where, before and after."""

    number: int = Field(description="Without gaps, over all accounts of the server.")
    at: datetime
    actor: str = Field(description="Who did it: an account and its token, an operator, or a process of the server.")
    actor_account_id: str | None
    actor_token_id: str | None
    address: str | None = Field(description="The address that was connected to the server.")
    action: str = Field(description="Noun and verb, like `token.revoke`.")
    account_id: str | None = Field(description="Whose money, access or data it touched.")
    target: str
    before: dict[str, Any] | None = Field(description="What it was; no secrets. Next to `x_nanos` stands `x_dollars`.")
    after: dict[str, Any] | None
    previous_hash: str = Field(description="The `hash` of the event with the number before.")
    hash: str = Field(description="SHA-256 of the previous hash and the event.")
