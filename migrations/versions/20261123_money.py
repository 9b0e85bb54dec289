"""The price book, wallets, credits, and roll-ups of usage.

What is known is carried over: the list price of each Hardware opens its book, each Account gets a wallet, and every
usage record becomes a posting, from which the wallets and the roll-ups fill up by themselves.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    _create()
    _carry_over()
    _guard()


def _carry_over() -> None:
    op.execute(
        """
        INSERT INTO prices (id, kind, subject, nanos_per_unit, effective_from, created_by)
        SELECT 'hardware:' || sku, 'hardware', sku, price_nanos_per_second, 'epoch', 'the list' FROM hardware
        """
    )
    op.drop_column("hardware", "price_nanos_per_second")
    op.execute("INSERT INTO wallets (account_id, credit_limit_nanos) SELECT id, credit_limit_nanos FROM accounts")
    op.drop_column("accounts", "credit_limit_nanos")
    op.execute(
        """
        INSERT INTO wallet_postings (account_id, amount_nanos, released_nanos, usage_record_id)
        SELECT account_id, -amount_nanos, 0, id FROM usage_records
        """
    )


def _guard() -> None:
    op.execute(
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON prices FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )
    op.execute(
        """
        CREATE FUNCTION standing_prices(for_kind text, for_subject text, for_account text, at timestamptz)
        RETURNS SETOF prices LANGUAGE sql STABLE AS $$
            SELECT DISTINCT ON (metric) * FROM (
                SELECT DISTINCT ON (metric, account_id) * FROM prices
                WHERE kind = for_kind AND subject = for_subject
                    AND (account_id IS NULL OR account_id = for_account) AND effective_from <= at
                ORDER BY metric, account_id, effective_from DESC, created_at DESC
            ) AS latest
            WHERE nanos_per_unit IS NOT NULL
            ORDER BY metric, account_id NULLS LAST
        $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION refuse_unfunded() RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'the wallet lacks the money' USING ERRCODE = 'MR402';
        END $$
        """
    )


def _create() -> None:
    op.create_table(
        "capacity_hours",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("node", sa.String(), nullable=False),
        sa.Column("hardware_sku", sa.String(), nullable=False),
        sa.Column("devices", sa.Integer(), nullable=False),
        sa.Column("micros", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hour", "node", "hardware_sku", name=op.f("pk_capacity_hours")),
    )
    op.create_table(
        "usage_days",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("deployment", sa.String(), nullable=False),
        sa.Column("hardware_sku", sa.String(), nullable=False),
        sa.Column("phase", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("runs", sa.BigInteger(), nullable=False),
        sa.Column("micros", sa.BigInteger(), nullable=False),
        sa.Column("amount_nanos", sa.BigInteger(), nullable=False),
        sa.Column("cost_nanos", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "day", "account_id", "model", "deployment", "hardware_sku", "phase", "outcome", name=op.f("pk_usage_days")
        ),
    )
    op.create_index(op.f("ix_usage_days_account_id_day"), "usage_days", ["account_id", "day"])
    op.create_table(
        "usage_hours",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("version_id", sa.String(), nullable=False),
        sa.Column("deployment", sa.String(), nullable=False),
        sa.Column("hardware_sku", sa.String(), nullable=False),
        sa.Column("token_id", sa.String(), nullable=False),
        sa.Column("phase", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("runs", sa.BigInteger(), nullable=False),
        sa.Column("micros", sa.BigInteger(), nullable=False),
        sa.Column("amount_nanos", sa.BigInteger(), nullable=False),
        sa.Column("cost_nanos", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "hour",
            "account_id",
            "model",
            "version_id",
            "deployment",
            "hardware_sku",
            "token_id",
            "phase",
            "outcome",
            name=op.f("pk_usage_hours"),
        ),
    )
    op.create_index(op.f("ix_usage_hours_account_id_hour"), "usage_hours", ["account_id", "hour"])
    op.create_table(
        "usage_tags",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("runs", sa.BigInteger(), nullable=False),
        sa.Column("micros", sa.BigInteger(), nullable=False),
        sa.Column("amount_nanos", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "day", "key", "value", "model", name=op.f("pk_usage_tags")),
    )
    op.create_table(
        "alerts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("details", postgresql.JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_alerts_account_id_accounts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
    )
    op.create_index(op.f("ix_alerts_account_id_created_at"), "alerts", ["account_id", "created_at"])
    op.create_table(
        "credits",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("amount_nanos", sa.BigInteger(), nullable=False),
        sa.Column("remaining_nanos", sa.BigInteger(), nullable=False),
        sa.Column("priority", sa.Integer(), server_default="100", nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expired_nanos", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_credits_account_id_accounts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credits")),
    )
    op.create_index(op.f("ix_credits_account_id_created_at"), "credits", ["account_id", "created_at"])
    op.create_index("ix_credits_left", "credits", ["account_id"], postgresql_where=sa.text("remaining_nanos > 0"))
    op.create_table(
        "prices",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("metric", sa.String(), server_default="second", nullable=False),
        sa.Column("account_id", sa.String(), nullable=True),
        sa.Column("nanos_per_unit", sa.BigInteger(), nullable=True),
        sa.Column("free_units", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("steps", postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("effective_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_prices_account_id_accounts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prices")),
    )
    op.create_index(
        op.f("ix_prices_kind_subject_metric_effective_from"), "prices", ["kind", "subject", "metric", "effective_from"]
    )
    op.create_table(
        "spend_limits",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), server_default="", nullable=False),
        sa.Column("limit_nanos", sa.BigInteger(), nullable=False),
        sa.Column("thresholds", sa.ARRAY(sa.Integer()), nullable=False),
        sa.Column("stops", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("month", sa.Date(), nullable=True),
        sa.Column("spent_nanos", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_spend_limits_account_id_accounts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_spend_limits")),
    )
    op.create_index(op.f("ix_spend_limits_account_id"), "spend_limits", ["account_id"])
    op.create_table(
        "wallet_postings",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("amount_nanos", sa.BigInteger(), nullable=False),
        sa.Column("released_nanos", sa.BigInteger(), nullable=False),
        sa.Column("usage_record_id", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_wallet_postings_account_id_accounts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_wallet_postings")),
    )
    op.create_index(op.f("ix_wallet_postings_account_id"), "wallet_postings", ["account_id"])
    op.create_table(
        "wallets",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("balance_nanos", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("held_nanos", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("credit_limit_nanos", sa.BigInteger(), nullable=True),
        sa.Column("when_empty", sa.String(), server_default="stop", nullable=False),
        sa.Column("low_balance_nanos", sa.BigInteger(), nullable=True),
        sa.Column("is_low", sa.Boolean(), server_default="false", nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_wallets_account_id_accounts")),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_wallets")),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "credit_burns",
        sa.Column("credit_id", sa.String(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("amount_nanos", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["credit_id"], ["credits.id"], name=op.f("fk_credit_burns_credit_id_credits")),
        sa.PrimaryKeyConstraint("credit_id", "day", name=op.f("pk_credit_burns")),
    )
    op.create_table(
        "volumes",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("price_id", sa.String(), nullable=False),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.Column("list_nanos", sa.BigInteger(), nullable=False),
        sa.Column("discount_nanos", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_volumes_account_id_accounts")),
        sa.ForeignKeyConstraint(["price_id"], ["prices.id"], name=op.f("fk_volumes_price_id_prices")),
        sa.PrimaryKeyConstraint("account_id", "price_id", "month", name=op.f("pk_volumes")),
    )
    op.create_table(
        "instance_times",
        sa.Column("instance_id", sa.String(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("phase", sa.String(), nullable=False),
        sa.Column("price_id", sa.String(), nullable=False),
        sa.Column("price_nanos_per_second", sa.BigInteger(), nullable=False),
        sa.Column("from_micros", sa.BigInteger(), nullable=False),
        sa.Column("micros", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instances.id"], name=op.f("fk_instance_times_instance_id_instances")
        ),
        sa.PrimaryKeyConstraint("instance_id", "hour", "phase", "price_id", name=op.f("pk_instance_times")),
    )
    op.add_column("accounts", sa.Column("billing_webhook_url", sa.String(), nullable=True))
    op.add_column("accounts", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("instances", sa.Column("model", sa.String(), server_default="", nullable=False))
    op.add_column("instances", sa.Column("deployment", sa.String(), nullable=True))
    op.add_column("instances", sa.Column("owner_id", sa.String(), nullable=True))
    op.add_column("instances", sa.Column("bills_time", sa.Boolean(), server_default="false", nullable=False))
    op.add_column("instances", sa.Column("held_nanos", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("instances", sa.Column("setup_micros", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("instances", sa.Column("idle_micros", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("instances", sa.Column("active_micros", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("ledger_entries", sa.Column("corrects", sa.String(), nullable=True))
    op.add_column("ledger_entries", sa.Column("actor", sa.String(), nullable=True))
    op.add_column("predictions", sa.Column("token_id", sa.String(), nullable=True))
    op.add_column("predictions", sa.Column("tags", postgresql.JSONB(), nullable=True))
    op.add_column("predictions", sa.Column("held_nanos", sa.BigInteger(), nullable=True))
    op.add_column("predictions", sa.Column("price_id", sa.String(), nullable=True))
    op.add_column("predictions", sa.Column("unit_prices", postgresql.JSONB(), nullable=True))
    op.add_column("predictions", sa.Column("micros", sa.BigInteger(), nullable=True))
    op.add_column("usage_records", sa.Column("account_name", sa.String(), server_default="", nullable=False))
    op.add_column("usage_records", sa.Column("deployment", sa.String(), nullable=True))
    op.add_column("usage_records", sa.Column("token_id", sa.String(), nullable=True))
    op.add_column("usage_records", sa.Column("tags", postgresql.JSONB(), nullable=True))
    op.add_column("usage_records", sa.Column("phase", sa.String(), server_default="active", nullable=False))
    op.add_column("usage_records", sa.Column("outcome", sa.String(), nullable=True))
    op.add_column("usage_records", sa.Column("failure_code", sa.String(), nullable=True))
    op.add_column("usage_records", sa.Column("price_id", sa.String(), nullable=True))
    op.add_column("usage_records", sa.Column("units", postgresql.JSONB(), nullable=True))
    op.add_column("usage_records", sa.Column("started_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("webhook_deliveries", sa.Column("body", postgresql.JSONB(), nullable=True))
    op.alter_column("webhook_deliveries", "prediction_id", existing_type=sa.VARCHAR(), nullable=True)


def downgrade() -> None:
    op.add_column("accounts", sa.Column("credit_limit_nanos", sa.BigInteger(), nullable=True))
    op.execute(
        "UPDATE accounts SET credit_limit_nanos = w.credit_limit_nanos FROM wallets w WHERE w.account_id = accounts.id"
    )
    op.add_column("hardware", sa.Column("price_nanos_per_second", sa.BigInteger(), server_default="0", nullable=False))
    op.execute(
        "UPDATE hardware SET price_nanos_per_second = nanos_per_unit FROM prices WHERE prices.id = 'hardware:' || sku"
    )
    op.alter_column("hardware", "price_nanos_per_second", server_default=None)
    # What only the newer schema could tell of.
    op.execute(
        "DELETE FROM webhook_attempts USING webhook_deliveries d WHERE d.id = delivery_id AND d.body IS NOT NULL"
    )
    op.execute("DELETE FROM webhook_deliveries WHERE body IS NOT NULL")
    op.alter_column("webhook_deliveries", "prediction_id", existing_type=sa.VARCHAR(), nullable=False)
    op.drop_column("webhook_deliveries", "body")
    op.drop_column("usage_records", "started_at")
    op.drop_column("usage_records", "units")
    op.drop_column("usage_records", "price_id")
    op.drop_column("usage_records", "failure_code")
    op.drop_column("usage_records", "outcome")
    op.drop_column("usage_records", "phase")
    op.drop_column("usage_records", "tags")
    op.drop_column("usage_records", "token_id")
    op.drop_column("usage_records", "deployment")
    op.drop_column("usage_records", "account_name")
    op.drop_column("predictions", "micros")
    op.drop_column("predictions", "unit_prices")
    op.drop_column("predictions", "price_id")
    op.drop_column("predictions", "held_nanos")
    op.drop_column("predictions", "tags")
    op.drop_column("predictions", "token_id")
    op.drop_column("ledger_entries", "actor")
    op.drop_column("ledger_entries", "corrects")
    op.drop_column("instances", "active_micros")
    op.drop_column("instances", "idle_micros")
    op.drop_column("instances", "setup_micros")
    op.drop_column("instances", "held_nanos")
    op.drop_column("instances", "bills_time")
    op.drop_column("instances", "owner_id")
    op.drop_column("instances", "deployment")
    op.drop_column("instances", "model")
    op.drop_column("accounts", "deleted_at")
    op.drop_column("accounts", "billing_webhook_url")
    op.drop_table("instance_times")
    op.drop_table("volumes")
    op.drop_table("credit_burns")
    op.drop_table("wallets")
    op.drop_index(op.f("ix_wallet_postings_account_id"), table_name="wallet_postings")
    op.drop_table("wallet_postings")
    op.drop_index(op.f("ix_spend_limits_account_id"), table_name="spend_limits")
    op.drop_table("spend_limits")
    op.drop_index(op.f("ix_prices_kind_subject_metric_effective_from"), table_name="prices")
    op.execute("DROP FUNCTION standing_prices(text, text, text, timestamptz)")
    op.drop_table("prices")
    op.drop_index("ix_credits_left", table_name="credits", postgresql_where=sa.text("remaining_nanos > 0"))
    op.drop_index(op.f("ix_credits_account_id_created_at"), table_name="credits")
    op.drop_table("credits")
    op.drop_index(op.f("ix_alerts_account_id_created_at"), table_name="alerts")
    op.drop_table("alerts")
    op.drop_table("usage_tags")
    op.drop_index(op.f("ix_usage_hours_account_id_hour"), table_name="usage_hours")
    op.drop_table("usage_hours")
    op.drop_index(op.f("ix_usage_days_account_id_day"), table_name="usage_days")
    op.drop_table("usage_days")
    op.drop_table("capacity_hours")
    op.execute("DROP FUNCTION refuse_unfunded()")
