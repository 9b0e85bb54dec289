"""The schema's history: it ends at what the tables say, in nobody's way, whoever else is migrating."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from alembic import command
from psycopg import sql

import migrations
from core.ids import new_id
from tests.support.servers import Servers

BOUND_SECONDS = 60
UPGRADE = "import sys, migrations; migrations.upgrade(sys.argv[1])"


@pytest.fixture
def url(servers: Servers) -> Iterator[str]:
    """An empty database of its own."""
    name = f"migrations_{new_id()}"
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        head, tail = servers.database_url.split("?")
        yield f"{head.rpartition('/')[0]}/{name}?{tail}"
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def upgrading(url: str) -> Iterator[subprocess.Popen]:
    """In a process of its own; Alembic knows but one migration at a time."""
    with subprocess.Popen([sys.executable, "-c", UPGRADE, url]) as process:
        try:
            yield process
        finally:
            process.kill()


def add_prediction(connection: psycopg.Connection, id: str) -> None:
    connection.execute(
        "INSERT INTO predictions (id, account_id, model, version_id, target, hardware_sku, status, input)"
        " VALUES (%s, 'a', 'a/m', 'v', 'v', 'cpu', 'starting', '{}')",
        (id,),
    )


def add_account(connection: psycopg.Connection) -> None:
    connection.execute(
        "INSERT INTO accounts (id, type, username, name, webhook_secret) VALUES ('a', 'user', 'a', 'a', 's')"
    )


def test_the_newest_revision_is_what_the_tables_say(url: str) -> None:
    migrations.upgrade(url)
    command.check(migrations.config(url))


def test_processes_that_migrate_at_once_all_find_it_done(url: str) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(upgrading(url)) for _ in range(3)]
        assert [process.wait(BOUND_SECONDS) for process in processes] == [0, 0, 0]
    command.check(migrations.config(url))


def test_predictions_are_written_while_their_indexes_are_built(url: str) -> None:
    migrations.upgrade(url, "0002")
    with psycopg.connect(url) as older, psycopg.connect(url, autocommit=True) as other:
        add_account(other)
        add_prediction(older, "1")
        with upgrading(url) as process:
            deadline = time.monotonic() + BOUND_SECONDS
            while not other.execute("SELECT 1 FROM pg_stat_progress_create_index WHERE lockers_total > 0").fetchone():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            other.execute("SET lock_timeout = '5s'")
            add_prediction(other, "2")
            assert process.poll() is None
            older.commit()
            assert process.wait(BOUND_SECONDS) == 0
    command.check(migrations.config(url))


def test_an_index_whose_build_was_interrupted_is_built_again(url: str) -> None:
    migrations.upgrade(url, "0002")
    with psycopg.connect(url, autocommit=True) as connection:
        add_account(connection)
        add_prediction(connection, "1")
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("CREATE INDEX CONCURRENTLY ix_predictions_web ON predictions ((1 / attempt))")
        migrations.upgrade(url)
        assert connection.execute("SELECT 1 FROM pg_index WHERE NOT indisvalid").fetchall() == []
    command.check(migrations.config(url))


def test_tokens_that_were_there_may_do_everything_and_new_ones_what_they_are_given(url: str) -> None:
    migrations.upgrade(url, "0001")
    token = "INSERT INTO tokens (id, account_id, name, prefix, token_hash) VALUES (%s, 'a', '', 'mr_', %s)"
    with psycopg.connect(url, autocommit=True) as connection:
        add_account(connection)
        connection.execute(token, ("1", b"1"))
        migrations.upgrade(url)
        [(scopes,)] = connection.execute("SELECT scopes FROM tokens").fetchall()
        assert scopes == ["read", "run", "write", "billing", "admin"]
        with pytest.raises(psycopg.errors.NotNullViolation):
            connection.execute(token, ("2", b"2"))


def test_a_downgrade_removes_what_had_no_place_before(url: str) -> None:
    migrations.upgrade(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO versions (id, artifact_kind, artifact, config, cog_version, timeout_seconds,"
            " setup_timeout_seconds, status) VALUES ('v', 'bundle', 'x', '{}', '', 1, 1, 'ready')"
        )
        connection.execute(
            "INSERT INTO nodes (id, name, boot_id, gpus, artifact_kinds, max_instances, lease_expires_at)"
            " VALUES ('n', 'n', 'b', '[]', '{}', 1, now())"
        )
        connection.execute(
            "INSERT INTO instances (id, target, version_id, hardware_sku, node_id, gpu_uuids, slots, status)"
            " VALUES ('i', 'v', 'v', 'cpu', 'n', '{}', 1, 'stopped')"
        )
        command.downgrade(migrations.config(url), "0001")
        assert connection.execute("SELECT count(*) FROM versions").fetchone() == (0,)
    migrations.upgrade(url)
    command.check(migrations.config(url))
