"""Invoices, payments, logins, and the audit log."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    _create()
    op.execute(
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_events "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )
    op.execute(
        """
        CREATE FUNCTION refuse_change_of_issued() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' AND to_jsonb(OLD) - 'pdf' = to_jsonb(NEW) - 'pdf' THEN
                RETURN NEW;
            END IF;
            RAISE EXCEPTION 'invoice % is issued: write a credit note that refers to it', OLD.number;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER frozen BEFORE UPDATE OR DELETE ON invoices FOR EACH ROW WHEN (OLD.status = 'issued') "
        "EXECUTE FUNCTION refuse_change_of_issued()"
    )


def _create() -> None:
    op.create_table(
        "audit_events",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("actor_account_id", sa.String(), nullable=True),
        sa.Column("actor_token_id", sa.String(), nullable=True),
        sa.Column("address", sa.String(), nullable=True),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=True),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("before", postgresql.JSONB(), nullable=True),
        sa.Column("after", postgresql.JSONB(), nullable=True),
        sa.Column("previous_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_events")),
    )
    op.create_index(op.f("ix_audit_events_account_id_number"), "audit_events", ["account_id", "number"])
    op.create_index(op.f("ix_audit_events_at"), "audit_events", ["at"])
    op.create_table(
        "invoice_series",
        sa.Column("series", sa.String(), nullable=False),
        sa.Column("last_number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("series", name=op.f("pk_invoice_series")),
    )
    op.create_table(
        "payment_events",
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("provider", "event_id", name=op.f("pk_payment_events")),
    )
    op.create_table(
        "billing_profiles",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), server_default="", nullable=False),
        sa.Column("address", sa.String(), server_default="", nullable=False),
        sa.Column("email", sa.String(), server_default="", nullable=False),
        sa.Column("tax_id", sa.String(), server_default="", nullable=False),
        sa.Column("tax_name", sa.String(), server_default="", nullable=False),
        sa.Column("tax_parts_per_million", sa.Integer(), server_default="0", nullable=False),
        sa.Column("locale", sa.String(), server_default="en_US", nullable=False),
        sa.Column("timezone", sa.String(), server_default="UTC", nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_billing_profiles_account_id_accounts")),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_billing_profiles")),
    )
    op.create_table(
        "invoices",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("number", sa.String(), nullable=True),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("corrects_id", sa.String(), nullable=True),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("period_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("period_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("document", postgresql.JSONB(), nullable=False),
        sa.Column("subtotal_nanos", sa.BigInteger(), nullable=False),
        sa.Column("tax_nanos", sa.BigInteger(), nullable=False),
        sa.Column("total_nanos", sa.BigInteger(), nullable=False),
        sa.Column("pdf", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_invoices_account_id_accounts")),
        sa.ForeignKeyConstraint(["corrects_id"], ["invoices.id"], name=op.f("fk_invoices_corrects_id_invoices")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invoices")),
        sa.UniqueConstraint("number", name=op.f("uq_invoices_number")),
    )
    op.create_index(op.f("ix_invoices_account_id_created_at"), "invoices", ["account_id", "created_at"])
    op.create_index(
        "uq_invoices_account_id_month",
        "invoices",
        ["account_id", "month"],
        unique=True,
        postgresql_where=sa.text("kind = 'invoice'"),
    )
    op.create_table(
        "logins",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_logins_account_id_accounts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_logins")),
        sa.UniqueConstraint("email", name=op.f("uq_logins_email")),
    )
    op.create_index(op.f("ix_logins_account_id"), "logins", ["account_id"])
    op.create_table(
        "payment_methods",
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("customer", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=True),
        sa.Column("label", sa.String(), nullable=True),
        sa.Column("recharge_below_nanos", sa.BigInteger(), nullable=True),
        sa.Column("recharge_to_nanos", sa.BigInteger(), nullable=True),
        sa.Column("paused_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_payment_methods_account_id_accounts")),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_payment_methods")),
    )
    op.create_table(
        "top_ups",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("amount_nanos", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("reference", sa.String(), nullable=True),
        sa.Column("failure", sa.String(), nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_top_ups_account_id_accounts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_top_ups")),
        sa.UniqueConstraint("provider", "reference", name=op.f("uq_top_ups_provider_reference")),
    )
    op.create_index(op.f("ix_top_ups_account_id_created_at"), "top_ups", ["account_id", "created_at"])
    op.create_index("ix_top_ups_pending", "top_ups", ["created_at"], postgresql_where=sa.text("status = 'pending'"))
    op.create_table(
        "sessions",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("login_id", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("user_agent", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["login_id"], ["logins.id"], name=op.f("fk_sessions_login_id_logins")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
    )
    op.create_index(op.f("ix_sessions_login_id"), "sessions", ["login_id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_sessions_login_id"), table_name="sessions")
    op.drop_table("sessions")
    op.drop_index("ix_top_ups_pending", table_name="top_ups", postgresql_where=sa.text("status = 'pending'"))
    op.drop_index(op.f("ix_top_ups_account_id_created_at"), table_name="top_ups")
    op.drop_table("top_ups")
    op.drop_table("payment_methods")
    op.drop_index(op.f("ix_logins_account_id"), table_name="logins")
    op.drop_table("logins")
    op.drop_index("uq_invoices_account_id_month", table_name="invoices", postgresql_where=sa.text("kind = 'invoice'"))
    op.drop_index(op.f("ix_invoices_account_id_created_at"), table_name="invoices")
    op.drop_table("invoices")
    op.drop_table("billing_profiles")
    op.drop_table("payment_events")
    op.drop_table("invoice_series")
    op.drop_index(op.f("ix_audit_events_at"), table_name="audit_events")
    op.drop_index(op.f("ix_audit_events_account_id_number"), table_name="audit_events")
    op.drop_table("audit_events")
    op.execute("DROP FUNCTION refuse_change_of_issued()")
