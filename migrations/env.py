"""Alembic's entry: one transaction per migration, by one process at a time, never waiting long for a table."""

import time

from alembic import context
from sqlalchemy import Connection, create_engine, pool, text

from core.database import sqlalchemy_url
from core.tables import Table

# Any number that nothing else in this database locks on.
_MIGRATION_LOCK = 7_310_001
# Others may be building indexes of large tables.
_PATIENCE_SECONDS = 3600
_PAUSE_SECONDS = 0.2
# What waits for a table lets nobody else at it.
_LOCK_TIMEOUT = "5s"


def run() -> None:
    engine = create_engine(
        sqlalchemy_url(context.config.attributes["url"]),
        poolclass=pool.NullPool,
        connect_args={"options": f"-c lock_timeout={_LOCK_TIMEOUT}"},
    )
    with engine.connect() as connection:
        _wait_for_turn(connection)
        context.configure(
            connection=connection,
            target_metadata=Table.metadata,
            compare_server_default=True,
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()


def _wait_for_turn(connection: Connection) -> None:
    """The lock is the session's, since a migration may consist of many transactions or none.

    Asked for again and again: a statement that waits has a snapshot, for which an index built by others would wait.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not _gets_turn(connection):
        if time.monotonic() > deadline:
            raise TimeoutError(f"Another process has been migrating this database for {_PATIENCE_SECONDS} seconds.")
        time.sleep(_PAUSE_SECONDS)


def _gets_turn(connection: Connection) -> bool:
    with connection.begin():
        return connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _MIGRATION_LOCK})


run()
