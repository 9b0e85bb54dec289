"""What keeps `millrace up` from starting is said in one sentence that names it."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cli.running_up import Up


@pytest.fixture
def up(tmp_path: Path) -> Up:
    return Up(tmp_path)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A small disk in memory, where we may mount one."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"A disk of its own takes the right to mount: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_port_in_use_is_named_with_the_process_that_has_it(up: Up) -> None:
    with socket.create_server(("0.0.0.0", up.port)):
        sentence = up.refused()
    assert f"Port {up.port} is in use" in sentence
    assert f"(process {os.getpid()})" in sentence


def test_a_data_folder_that_cannot_be_made_is_named(up: Up, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    up.data = tmp_path / "file" / "data"
    assert f"The data folder {up.data} cannot be written" in up.refused()


def test_a_data_folder_that_is_read_only_is_named(up: Up, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "ro"):
        up.data = tmp_path / "disk" / "data"
        assert f"The data folder {up.data} cannot be written (Read-only file system)" in up.refused()


def test_a_disk_with_little_space_is_named(up: Up, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=16m"):
        up.data = tmp_path / "disk" / "data"
        assert f"The disk that holds {up.data} is full" in up.refused()


def test_a_disk_without_any_space_is_named(up: Up, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=64k"):
        up.data = tmp_path / "disk" / "data"
        with suppress(OSError), (tmp_path / "disk" / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        assert f"The disk that holds {up.data} is full" in up.refused()


def test_a_setting_that_makes_no_sense_is_named(up: Up) -> None:
    up.port = 70_000
    assert "MILLRACE_PORT" in up.refused()


def test_models_that_are_not_there_are_named(up: Up, tmp_path: Path) -> None:
    up.models = tmp_path / "nowhere"
    assert f"There are no Cog projects in {up.models}" in up.refused()
