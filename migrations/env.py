"""Alembic's entry: one transaction per upgrade, under an advisory lock, never waiting long for a table."""

from alembic import context
from sqlalchemy import create_engine, pool, text

from core.database import sqlalchemy_url
from core.tables import Table

# Any number that nothing else in this database locks on.
_MIGRATION_LOCK = 7_310_001


def run() -> None:
    engine = create_engine(sqlalchemy_url(context.config.attributes["url"]), poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=Table.metadata, compare_server_default=True)
        with context.begin_transaction():
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            context.run_migrations()


run()
