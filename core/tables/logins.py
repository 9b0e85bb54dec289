from sqlalchemy import ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from core.tables.base import CreatedAt, Id, Moment, Table


class Login(Table):
    """A person who may open an Account's pages, by email and password."""

    __tablename__ = "logins"

    id: Mapped[Id]
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    email: Mapped[str] = mapped_column(unique=True)
    """In lower case."""
    password_hash: Mapped[str]
    created_at: Mapped[CreatedAt]
    last_seen_at: Mapped[Moment | None]
    disabled_at: Mapped[Moment | None]


class Session(Table):
    """A browser that has logged in. Only the hash of its cookie is kept."""

    __tablename__ = "sessions"

    id: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    login_id: Mapped[str] = mapped_column(ForeignKey("logins.id"), index=True)
    address: Mapped[str]
    user_agent: Mapped[str]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[Moment]
