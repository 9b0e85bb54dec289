"""What the whole public API needs: Deployments, collections, examples, scopes, idempotency, caching, retention.

One transaction: what is rewritten as a whole (the models, which are few) comes first, before any lock on what every
request needs; all that follows takes no time, however large a table is. The indexes of large tables are the next one.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

_PLAIN = "translate(left(coalesce({column}, ''), 100000), '-_./:@', '      ')"
SEARCHABLE = " || ".join(
    f"setweight(to_tsvector('simple', {_PLAIN.format(column=column)}), '{weight}')"
    for column, weight in (("name", "A"), ("description", "B"), ("readme", "C"))
)


def upgrade() -> None:
    op.add_column("models", sa.Column("weights_url", sa.String(), nullable=True))
    op.add_column("models", sa.Column("latest_version_created_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(
        """
        UPDATE models SET latest_version_created_at = versions.created_at
        FROM versions WHERE versions.id = models.latest_version_id
        """
    )
    op.add_column("models", sa.Column("searchable", postgresql.TSVECTOR(), sa.Computed(SEARCHABLE, persisted=True)))
    op.create_table(
        "collections",
        sa.Column("slug", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("full_description", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("slug", name=op.f("pk_collections")),
    )
    op.create_table(
        "deployments",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("release_number", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["accounts.id"], name=op.f("fk_deployments_owner_id_accounts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployments")),
        sa.UniqueConstraint("owner_id", "name", name=op.f("uq_deployments_owner_id_name")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False),
        sa.Column("resource_id", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("content_type", sa.String(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_idempotency_keys_account_id_accounts")),
        sa.PrimaryKeyConstraint("account_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_expires_at"), "idempotency_keys", ["expires_at"], unique=False)
    op.create_index(op.f("ix_idempotency_keys_resource_id"), "idempotency_keys", ["resource_id"], unique=False)
    op.create_table(
        "collection_models",
        sa.Column("slug", sa.String(), nullable=False),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_collection_models_model_id_models"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["slug"], ["collections.slug"], name=op.f("fk_collection_models_slug_collections"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("slug", "model_id", name=op.f("pk_collection_models")),
    )
    op.create_index(op.f("ix_collection_models_model_id"), "collection_models", ["model_id"], unique=False)
    op.create_table(
        "model_examples",
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("prediction_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_model_examples_model_id_models"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["prediction_id"],
            ["predictions.id"],
            name=op.f("fk_model_examples_prediction_id_predictions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("model_id", "prediction_id", name=op.f("pk_model_examples")),
    )
    op.create_index(op.f("ix_model_examples_prediction_id"), "model_examples", ["prediction_id"], unique=False)
    op.create_table(
        "releases",
        sa.Column("deployment_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version_id", sa.String(), nullable=False),
        sa.Column("hardware_sku", sa.String(), nullable=False),
        sa.Column("min_instances", sa.Integer(), nullable=False),
        sa.Column("max_instances", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["created_by"], ["accounts.id"], name=op.f("fk_releases_created_by_accounts")),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployments.id"],
            name=op.f("fk_releases_deployment_id_deployments"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["hardware_sku"], ["hardware.sku"], name=op.f("fk_releases_hardware_sku_hardware")),
        sa.PrimaryKeyConstraint("deployment_id", "number", name=op.f("pk_releases")),
    )
    op.add_column("accounts", sa.Column("previous_webhook_secret", sa.String(), nullable=True))
    op.add_column("accounts", sa.Column("previous_webhook_secret_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("accounts", sa.Column("credit_limit_nanos", sa.BigInteger(), nullable=True))
    op.add_column("predictions", sa.Column("deployment", sa.String(), nullable=True))
    op.add_column("predictions", sa.Column("cache_key", sa.LargeBinary(), nullable=True))
    op.add_column("predictions", sa.Column("cached_from", sa.String(), nullable=True))
    op.add_column("predictions", sa.Column("boot_seconds", sa.Double(), nullable=True))
    op.add_column("predictions", sa.Column("setup_seconds", sa.Double(), nullable=True))
    op.add_column(
        "tokens",
        sa.Column("scopes", sa.ARRAY(sa.Text()), server_default="{read,run,write,billing,admin}", nullable=False),
    )
    # That of the tokens there are: none is given to one that says nothing.
    op.alter_column("tokens", "scopes", server_default=None)
    op.add_column("tokens", sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("versions", sa.Column("caches_results", sa.Boolean(), server_default="false", nullable=False))
    op.add_column("versions", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.alter_column("versions", "model_id", nullable=True)
    op.drop_constraint("fk_versions_model_id_models", "versions")
    op.create_foreign_key(
        op.f("fk_versions_model_id_models"), "versions", "models", ["model_id"], ["id"], ondelete="SET NULL"
    )
    op.add_column(
        "webhook_deliveries", sa.Column("attempts_before_replay", sa.Integer(), server_default="0", nullable=False)
    )


def downgrade() -> None:
    op.drop_column("webhook_deliveries", "attempts_before_replay")
    op.drop_column("models", "searchable")
    # Those of deleted Models, kept for their names only.
    op.execute("DELETE FROM instances USING versions WHERE versions.id = version_id AND model_id IS NULL")
    op.execute("DELETE FROM versions WHERE model_id IS NULL")
    op.drop_constraint("fk_versions_model_id_models", "versions")
    op.create_foreign_key(op.f("fk_versions_model_id_models"), "versions", "models", ["model_id"], ["id"])
    op.alter_column("versions", "model_id", nullable=False)
    op.drop_column("versions", "deleted_at")
    op.drop_column("versions", "caches_results")
    op.drop_column("tokens", "last_used_at")
    op.drop_column("tokens", "scopes")
    op.drop_column("predictions", "setup_seconds")
    op.drop_column("predictions", "boot_seconds")
    op.drop_column("predictions", "cached_from")
    op.drop_column("predictions", "cache_key")
    op.drop_column("predictions", "deployment")
    op.drop_column("models", "latest_version_created_at")
    op.drop_column("models", "weights_url")
    op.drop_column("accounts", "credit_limit_nanos")
    op.drop_column("accounts", "previous_webhook_secret_until")
    op.drop_column("accounts", "previous_webhook_secret")
    op.drop_table("releases")
    op.drop_index(op.f("ix_model_examples_prediction_id"), table_name="model_examples")
    op.drop_table("model_examples")
    op.drop_index(op.f("ix_collection_models_model_id"), table_name="collection_models")
    op.drop_table("collection_models")
    op.drop_index(op.f("ix_idempotency_keys_resource_id"), table_name="idempotency_keys")
    op.drop_index(op.f("ix_idempotency_keys_expires_at"), table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_table("deployments")
    op.drop_table("collections")
