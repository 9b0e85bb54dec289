"""The indexes of money on tables that may be large, built while they are read and written, as in 0003."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

INDEXES = (
    ("ix_instances_held", "instances", ["owner_id"], "held_nanos > 0"),
    ("ix_ledger_entries_corrects", "ledger_entries", ["corrects"], "corrects IS NOT NULL"),
    ("ix_ledger_entries_kind", "ledger_entries", ["kind", "created_at"], "kind <> 'usage'"),
    ("ix_usage_records_account_id_ended_at", "usage_records", ["account_id", "ended_at"], None),
    ("ix_usage_records_day_ended_at", "usage_records", ["day", "ended_at"], None),
    ("ix_usage_records_model_ended_at", "usage_records", ["model", "ended_at"], None),
    ("ix_usage_records_failed", "usage_records", ["failure_code", "day"], "failure_code IS NOT NULL"),
)
REPLACED = (
    ("ix_usage_records_account_id_day", "usage_records", ["account_id", "day"], None),
    ("ix_usage_records_model", "usage_records", ["model"], None),
)
# Each waits for all transactions that are older, a backup's as well, and meanwhile is in nobody's way.
LOCK_TIMEOUT = "30min"


def upgrade() -> None:
    _replace(INDEXES, REPLACED)


def downgrade() -> None:
    _replace(REPLACED, INDEXES)


def _replace(new, old) -> None:
    with op.get_context().autocommit_block():
        op.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        for name, table, columns, where in new:
            op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)
            only = sa.text(where) if where else None
            op.create_index(name, table, columns, postgresql_where=only, postgresql_concurrently=True)
        for name, table, _, _ in old:
            op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)
        op.execute("RESET lock_timeout")
