"""The embedded servers, on their own."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from cli.embedded.postgres import embedded_postgres
from cli.embedded.sockets import socket_folder
from core.resources import Resources
from tests.support.servers import initialize


async def test_the_database_is_migrated(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        assert await tx.scalar(text("SELECT count(*) FROM accounts")) is not None


async def test_a_clean_database_holds_no_rows_and_no_keys(resources: Resources, clean_database: None) -> None:
    async with resources.database.transaction() as tx:
        assert await tx.scalar(text("SELECT count(*) FROM accounts")) == 0
    assert await resources.redis.dbsize() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root needs another user for PostgreSQL.")
def test_root_runs_postgres_from_folders_that_only_root_may_enter(tmp_path: Path) -> None:
    postgres = embedded_postgres(tmp_path / "postgres", socket_folder(tmp_path))
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    package = postgres.binaries.parents[1]
    for folder in (f"{package.name}/{postgres.binaries.parent.name}", f"{package.name}.libs"):
        shutil.copytree(package.parent / folder, closed / folder)
    binaries = closed / postgres.binaries.relative_to(package.parent)
    initialize(replace(postgres, binaries=binaries), tmp_path / "log")
    assert postgres.is_initialized
    assert closed.stat().st_mode & 0o777 == 0o700


def test_a_stale_pid_file_whose_pid_is_another_process_now_does_not_keep_postgres_from_starting(tmp_path: Path) -> None:
    postgres = embedded_postgres(tmp_path / "postgres", socket_folder(tmp_path))
    initialize(postgres, tmp_path / "log")
    pid_file = postgres.folder / "postmaster.pid"
    pid_file.write_text(f"{psutil.Process().pid}\n{postgres.folder}\n")
    assert postgres.leftover() is None
    postgres.before_start()
    assert not pid_file.exists()


def test_sockets_of_a_data_folder_with_a_long_path_are_elsewhere_and_private(tmp_path: Path) -> None:
    folder = socket_folder(tmp_path / ("long" * 30))
    assert len(os.fsencode(folder / ".s.PGSQL.5432")) <= 107
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()
