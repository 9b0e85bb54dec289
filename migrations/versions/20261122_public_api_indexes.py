"""The indexes of the public API on tables that may be large, built while they are read and written.

Outside any transaction, so each statement must bear being done again: a build that failed leaves an invalid index.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

INDEXES = (
    ("ix_files_expires_at", "files", ["expires_at"], "expires_at IS NOT NULL"),
    ("ix_predictions_cache_key", "predictions", ["account_id", "cache_key"], "cache_key IS NOT NULL"),
    ("ix_predictions_cached_from", "predictions", ["cached_from"], "cached_from IS NOT NULL"),
    ("ix_predictions_deadline", "predictions", ["deadline_at"], "completed_at IS NULL AND deadline_at IS NOT NULL"),
    ("ix_predictions_kept", "predictions", ["source", "completed_at"], "completed_at IS NOT NULL AND NOT data_removed"),
    ("ix_predictions_version_id_completed_at", "predictions", ["version_id", "completed_at"], None),
    ("ix_predictions_web", "predictions", ["account_id", "created_at"], "source = 'web'"),
    ("ix_usage_records_version_id_ended_at", "usage_records", ["version_id", "ended_at"], None),
    ("ix_webhook_deliveries_failed", "webhook_deliveries", ["account_id", "created_at"], "status <> 'delivered'"),
)
# Each waits for all transactions that are older, a backup's as well, and meanwhile is in nobody's way.
LOCK_TIMEOUT = "30min"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        for name, table, columns, where in INDEXES:
            op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)
            only = sa.text(where) if where else None
            op.create_index(name, table, columns, postgresql_where=only, postgresql_concurrently=True)
        op.execute("RESET lock_timeout")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        for name, table, _, _ in INDEXES:
            op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)
        op.execute("RESET lock_timeout")
