"""The index by which old setup logs are found, built as in 0003: there is a row for every boot there ever was."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

# It waits for all transactions that are older, a backup's as well, and meanwhile is in nobody's way.
LOCK_TIMEOUT = "30min"
NAME, TABLE = "ix_instances_setup_logs", "instances"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        op.drop_index(NAME, TABLE, if_exists=True, postgresql_concurrently=True)
        only = sa.text("setup_logs <> '' AND ended_at IS NOT NULL")
        op.create_index(NAME, TABLE, ["ended_at"], postgresql_where=only, postgresql_concurrently=True)


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
        op.drop_index(NAME, TABLE, if_exists=True, postgresql_concurrently=True)
