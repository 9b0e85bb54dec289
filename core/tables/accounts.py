from sqlalchemy import ARRAY, ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.tables.base import CreatedAt, Id, Moment, Table


class Account(Table):
    """A user or an organization that owns things and pays."""

    __tablename__ = "accounts"

    id: Mapped[Id]
    type: Mapped[str]
    username: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    github_url: Mapped[str | None]
    avatar_url: Mapped[str | None]
    is_admin: Mapped[bool] = mapped_column(server_default="false")
    webhook_secret: Mapped[str]
    previous_webhook_secret: Mapped[str | None]
    """Signs as well, until it has been replaced everywhere."""
    previous_webhook_secret_until: Mapped[Moment | None]
    max_running: Mapped[int | None]
    """How many of its predictions may run at once; 0: as many as there are slots for, None: as the server has it."""
    billing_webhook_url: Mapped[str | None]
    """Where alerts about its money are sent."""
    deleted_at: Mapped[Moment | None]
    """Nobody speaks for it any more; what it used and paid stays."""
    created_at: Mapped[CreatedAt]


class Token(Table):
    """Only the hash is kept; `prefix` lets its owner recognise it."""

    __tablename__ = "tokens"

    id: Mapped[Id]
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    name: Mapped[str]
    prefix: Mapped[str]
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[CreatedAt]
    last_used_at: Mapped[Moment | None]
    """To the minute."""
    expires_at: Mapped[Moment | None]
    revoked_at: Mapped[Moment | None]
