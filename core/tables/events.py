from sqlalchemy import BigInteger, Identity, Index
from sqlalchemy.orm import Mapped, mapped_column

from core.tables.base import CreatedAt, Table


class Event(Table):
    """Something that befell a prediction, an Instance, a Node or a target, and why. What a prediction's own row tells
    (created, started, ended) is not told again here, so that none is written on its path."""

    __tablename__ = "events"
    __table_args__ = (Index(None, "subject", "id"), Index(None, "at"))

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[CreatedAt]
    subject: Mapped[str]
    """`prediction:<id>`, `instance:<id>`, `node:<name>` or `target:<target>`."""
    actor: Mapped[str]
    """`scheduler`, `node:<name>`, or who asked for it."""
    was: Mapped[str | None]
    becomes: Mapped[str | None]
    """A state; None where none was left."""
    reason: Mapped[str | None]
