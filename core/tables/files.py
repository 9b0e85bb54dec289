from sqlalchemy import BigInteger, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from core.tables.base import CreatedAt, Id, Json, Moment, Table


class File(Table):
    """Bytes in the store: uploaded by an account (`upload`), written by a model (`output`), or a Version's `bundle`."""

    __tablename__ = "files"
    __table_args__ = (
        Index(None, "account_id", text("created_at DESC"), text("id DESC")),
        Index("ix_files_expires_at", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
        Index("ix_files_prediction_id", "prediction_id", postgresql_where=text("prediction_id IS NOT NULL")),
    )

    id: Mapped[Id]
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    kind: Mapped[str]
    prediction_id: Mapped[str | None]
    name: Mapped[str]
    content_type: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    md5: Mapped[str]
    sha256: Mapped[str]
    metadata_: Mapped[Json] = mapped_column("metadata")
    store_key: Mapped[str]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[Moment | None]
