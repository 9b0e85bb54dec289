from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from core.tables.base import CreatedAt, Id, Table


class Deployment(Table):
    """A named, scalable endpoint; what it runs is its current Release."""

    __tablename__ = "deployments"
    __table_args__ = (UniqueConstraint("owner_id", "name"),)

    id: Mapped[Id]
    owner_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    name: Mapped[str]
    release_number: Mapped[int]
    """The current one's."""
    created_at: Mapped[CreatedAt]


class Release(Table):
    """One immutable, numbered configuration of a Deployment."""

    __tablename__ = "releases"

    deployment_id: Mapped[str] = mapped_column(ForeignKey("deployments.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str]
    """`owner/name` as it was, so that old Releases outlive the Model and its Versions."""
    version_id: Mapped[str]
    hardware_sku: Mapped[str] = mapped_column(ForeignKey("hardware.sku"))
    min_instances: Mapped[int]
    max_instances: Mapped[int]
    created_by: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    created_at: Mapped[CreatedAt]
