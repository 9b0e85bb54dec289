"""One embedded PostgreSQL and one Redis for a whole test run, in a temporary folder, and an empty migrated database."""

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

import migrations
from cli.embedded.postgres import Postgres, embedded_postgres
from cli.embedded.redis import embedded_redis
from cli.embedded.sockets import socket_folder
from core.resources import Resources
from core.tables import Table

START_SECONDS = 30
# What is left of it after a power cut matters to nobody.
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Servers:
    database_url: str
    redis_url: str


@contextmanager
def running_servers(data: Path, **settings: str) -> Iterator[Servers]:
    """Starts both under `data`, brings the database to the newest revision, and ends both."""
    sockets = socket_folder(data)
    postgres = embedded_postgres(data / "postgres", sockets, {**NOT_DURABLE, **settings})
    redis = embedded_redis(sockets)
    initialize(postgres, data / "initdb.log")
    postgres.before_start()
    with ExitStack() as stack:
        stack.enter_context(_running([*postgres.privileges, *postgres.command], data / "postgres.log"))
        stack.enter_context(_running(redis.command, data / "redis.log"))
        _wait(lambda: subprocess.run(postgres.ready_command, check=False).returncode == 0, "PostgreSQL")
        _wait(lambda: _accepts(redis.socket), "Redis")
        migrations.upgrade(postgres.url)
        yield Servers(postgres.url, redis.url)


def initialize(postgres: Postgres, log: Path) -> None:
    """Makes its folder, which must not be there yet."""
    postgres.before_init()
    command = ["setpriv", "--pdeathsig", "KILL", *postgres.privileges, *postgres.init_command, "--no-sync"]
    with log.open("wb") as output:
        subprocess.run(command, check=True, stdout=output, stderr=output)
    postgres.after_init()


@contextmanager
def _running(command: Sequence[str], log: Path) -> Iterator[None]:
    # So that a test run that is killed leaves no servers.
    with log.open("wb") as output:
        process = subprocess.Popen(["setpriv", "--pdeathsig", "INT", *command], stdout=output, stderr=output)
    try:
        yield
    finally:
        process.send_signal(2)
        process.wait(START_SECONDS)


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def _wait(is_ready, name: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_ready():
        assert time.monotonic() < deadline, f"{name} did not start in {START_SECONDS} seconds."
        time.sleep(0.02)


async def empty(resources: Resources) -> None:
    """Removes every row and every key."""
    tables = ", ".join(table.name for table in Table.metadata.sorted_tables)
    async with resources.database.transaction() as tx:
        await tx.execute(text(f"TRUNCATE {tables} CASCADE"))
    await resources.redis.flushall()
