from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from core.tables.base import CreatedAt, Moment, Table


class IdempotencyKey(Table):
    """What a caller's key stands for: a request, the id that what it makes has, and the answer once there is one."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index(None, "resource_id"), Index(None, "expires_at"))

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_hash: Mapped[bytes]
    resource_id: Mapped[str]
    status: Mapped[int | None]
    content_type: Mapped[str | None]
    answer: Mapped[bytes | None]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[Moment]
