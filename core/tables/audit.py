from sqlalchemy import BigInteger, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from core.tables.base import Json, Moment, Table


class AuditEvent(Table):
    """Who did what, from where, and what it changed. Append only; each hash covers the one before."""

    __tablename__ = "audit_events"
    __table_args__ = (Index(None, "account_id", "number"), Index(None, "at"))

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[Moment]
    actor: Mapped[str]
    """`admin`, `admin via token mr_1a2b…`, `operator root`, `rule`: for people."""
    actor_account_id: Mapped[str | None]
    actor_token_id: Mapped[str | None]
    address: Mapped[str | None]
    action: Mapped[str]
    """`token.create`, `wallet.top_up`: noun and verb."""
    account_id: Mapped[str | None]
    """Whose money, access or data it touches."""
    target: Mapped[str]
    before: Mapped[Json | None]
    after: Mapped[Json | None]
    previous_hash: Mapped[bytes] = mapped_column(LargeBinary)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
