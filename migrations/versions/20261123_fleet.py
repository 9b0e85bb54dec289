"""What scheduling many models on few GPUs needs: labels, sharing, draining, phases of a boot, priorities, events."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"

# None of these rewrites its table: each default is a constant.
COLUMNS = {
    "accounts": [sa.Column("max_running", sa.Integer())],
    "instances": [
        sa.Column("drain_deadline_at", sa.DateTime(timezone=True)),
        sa.Column("shares_gpu", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("reserved_bytes", sa.BigInteger()),
        sa.Column("peak_bytes", sa.BigInteger()),
        sa.Column("pull_seconds", sa.Double()),
        sa.Column("create_seconds", sa.Double()),
        sa.Column("boot_seconds", sa.Double()),
    ],
    "nodes": [
        sa.Column("artifacts", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("labels", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("shares_gpus", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("reported_at", sa.DateTime(timezone=True)),
        sa.Column("clock_offset_seconds", sa.Double()),
        sa.Column("drain_deadline_at", sa.DateTime(timezone=True)),
    ],
    "predictions": [
        sa.Column("priority", sa.String(), server_default="normal", nullable=False),
        sa.Column("pull_seconds", sa.Double()),
        sa.Column("create_seconds", sa.Double()),
    ],
    "versions": [
        sa.Column("shares_gpu", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("is_pinned", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("node_labels", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("peak_bytes", sa.BigInteger()),
    ],
}


def upgrade() -> None:
    for table, columns in COLUMNS.items():
        for column in columns:
            op.add_column(table, column)
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("was", sa.String()),
        sa.Column("becomes", sa.String()),
        sa.Column("reason", sa.String()),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_index("ix_events_subject_id", "events", ["subject", "id"])
    op.create_index("ix_events_at", "events", ["at"])


def downgrade() -> None:
    op.drop_table("events")
    for table, columns in COLUMNS.items():
        for column in columns:
            op.drop_column(table, column.name)
