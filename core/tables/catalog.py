from sqlalchemy import BigInteger, Computed, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from core.tables.base import CreatedAt, Id, Json, Moment, Table


def _words(column: str, weight: str) -> str:
    # Words as people type them, not as Postgres would join them: hosts, paths, addresses, compounds. A vector holds
    # no more than 1 MB, so a long text is searched in its beginning.
    plain = f"translate(left(coalesce({column}, ''), 100000), '-_./:@', '      ')"
    return f"setweight(to_tsvector('simple', {plain}), '{weight}')"


SEARCHABLE = " || ".join((_words("name", "A"), _words("description", "B"), _words("readme", "C")))


class Hardware(Table):
    """A kind of machine with a SKU. What it costs is in the price book."""

    __tablename__ = "hardware"

    sku: Mapped[Id]
    name: Mapped[str]
    gpu_count: Mapped[int] = mapped_column(server_default="0")
    gpu_model: Mapped[str | None]
    """As NVML names it; None fits no GPU at all."""
    created_at: Mapped[CreatedAt]


class Model(Table):
    """A named machine-learning model, `owner/name`."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("owner_id", "name"),)

    id: Mapped[Id]
    owner_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    name: Mapped[str]
    description: Mapped[str | None]
    visibility: Mapped[str] = mapped_column(server_default="private")
    readme: Mapped[str | None]
    github_url: Mapped[str | None]
    paper_url: Mapped[str | None]
    license_url: Mapped[str | None]
    cover_image_url: Mapped[str | None]
    weights_url: Mapped[str | None]
    hardware_sku: Mapped[str] = mapped_column(ForeignKey("hardware.sku"))
    latest_version_id: Mapped[str | None]
    latest_version_created_at: Mapped[Moment | None]
    created_at: Mapped[CreatedAt]
    searchable: Mapped[str] = mapped_column(TSVECTOR, Computed(SEARCHABLE, persisted=True))
    """The words a search finds it by, but for its owner's name."""


class Version(Table):
    """One immutable artifact of a Model. Its id hashes the Model's name and the artifact, so that equal artifacts
    under two names stay two Versions (docs/decisions/0004)."""

    __tablename__ = "versions"
    __table_args__ = (Index(None, "model_id", "created_at"),)

    id: Mapped[Id]
    model_id: Mapped[str | None] = mapped_column(ForeignKey("models.id", ondelete="SET NULL"))
    """None: its Model was deleted after it."""
    artifact_kind: Mapped[str]
    artifact: Mapped[str]
    """`image`: a reference by digest. `bundle`: the content digest."""
    config: Mapped[Json]
    openapi_schema: Mapped[Json | None]
    cog_version: Mapped[str]
    slots: Mapped[int] = mapped_column(server_default="1")
    timeout_seconds: Mapped[int]
    setup_timeout_seconds: Mapped[int]
    allows_retry: Mapped[bool] = mapped_column(server_default="true")
    """Whether a prediction that had produced nothing may run again after its node died."""
    status: Mapped[str]
    status_reason: Mapped[str | None]
    prepare_lease_expires_at: Mapped[Moment | None]
    shares_gpu: Mapped[bool] = mapped_column(server_default="false")
    """Whether its Instances may share a GPU with others where the measured peaks fit together."""
    is_pinned: Mapped[bool] = mapped_column(server_default="false")
    """Its Instances make room for nobody, and its last one stays."""
    node_labels: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    """Labels that a Node must have to run it; every Node has `node`, its name."""
    peak_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """The most that one of its Instances was seen to use on one GPU."""
    caches_results: Mapped[bool] = mapped_column(server_default="false")
    """Whether its owner holds that equal inputs give equal outputs, so that a request may ask for an earlier one."""
    created_at: Mapped[CreatedAt]
    deleted_at: Mapped[Moment | None]
    """Nobody sees it any more; the purge removes what it left."""


class ModelExample(Table):
    """A prediction that shows what its Model does. Kept as long as it is an example."""

    __tablename__ = "model_examples"

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), primary_key=True)
    prediction_id: Mapped[str] = mapped_column(
        ForeignKey("predictions.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    created_at: Mapped[CreatedAt]


class Collection(Table):
    """Models an admin put together under one heading."""

    __tablename__ = "collections"

    slug: Mapped[Id]
    name: Mapped[str]
    description: Mapped[str]
    full_description: Mapped[str | None]
    """Markdown."""
    created_at: Mapped[CreatedAt]


class CollectionModel(Table):
    __tablename__ = "collection_models"

    slug: Mapped[str] = mapped_column(ForeignKey("collections.slug", ondelete="CASCADE"), primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), primary_key=True, index=True)
    position: Mapped[int]
