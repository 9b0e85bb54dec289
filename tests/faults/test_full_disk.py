"""The disk that holds files is full: what needs it fails with a reason, and goes on when there is room again."""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.recovery import recovery
from tests.support.invariants import check_invariants
from tests.support.platform import PROJECTS, Platform

pytestmark = pytest.mark.faults

DISK_BYTES = 8 * 1024 * 1024
#: More than a block, so that it cannot be kept in what is left of one.
INPUT = {"file": "data:text/plain;base64,aGVsbG8=", "count": 2}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("Only root can mount a small disk.")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
async def platform(tmp_path: Path, disk: Path) -> AsyncIterator[Platform]:
    async with Platform(tmp_path / "data", files_url=f"file://{disk}") as platform:
        await platform.wait_ready(*[await platform.publish(PROJECTS / name) for name in ("files", "no-op")])
        yield platform


async def test_a_full_disk_fails_what_writes_files_with_a_reason_and_nothing_else(
    platform: Platform, disk: Path
) -> None:
    ids = [await _ended(platform, "files", INPUT, "succeeded")]
    filler = disk / "filler"
    with filler.open("wb") as file:
        _fill(file)
    failed = await platform.client.finished((await platform.client.create("millrace/files", INPUT))["id"])
    assert failed["status"] == "failed", failed
    assert "disk" in failed["error"], failed
    ids += [failed["id"], await _ended(platform, "no-op", {"text": "needs no file"}, "succeeded")]
    filler.unlink()
    with recovery("disk full"):
        ids.append(await _ended(platform, "files", INPUT, "succeeded"))
    await check_invariants(platform, ids)


def _fill(file: Any) -> None:
    block = bytes(4096)
    try:
        while True:
            os.write(file.fileno(), block)
    except OSError:
        return


async def _ended(platform: Platform, model: str, input: dict[str, object], status: str) -> str:
    created = await platform.client.create(f"millrace/{model}", input)
    ended = await platform.client.finished(created["id"])
    assert ended["status"] == status, ended
    return ended["id"]
