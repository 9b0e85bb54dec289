from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from core.tables.base import CreatedAt, Id, Moment, Table


class JoinToken(Table):
    """Lets machines join as Nodes. Only the hash of its secret is kept."""

    __tablename__ = "join_tokens"

    id: Mapped[Id]
    name: Mapped[str]
    secret_hash: Mapped[bytes] = mapped_column(unique=True)
    uses: Mapped[int] = mapped_column(server_default="0")
    max_uses: Mapped[int]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[Moment]
    revoked_at: Mapped[Moment | None]


class Member(Table):
    """A machine that has joined under a Node's name; its certificates carry the id."""

    __tablename__ = "members"
    __table_args__ = (Index("uq_members_name", "name", unique=True, postgresql_where=text("expelled_at IS NULL")),)

    id: Mapped[Id]
    name: Mapped[str]
    join_token_id: Mapped[str] = mapped_column(ForeignKey("join_tokens.id"))
    address: Mapped[str]
    """Where it joined from."""
    joined_at: Mapped[CreatedAt]
    certificate_expires_at: Mapped[Moment]
    """Of its newest certificate."""
    expelled_at: Mapped[Moment | None]
    """It is let in no more; its name is free for another."""
