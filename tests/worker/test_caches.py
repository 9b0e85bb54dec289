"""What a Version has fetched or compiled is there at its next boot, and no other Version's to read or write."""

import os
from pathlib import Path

from worker import caches


def test_the_next_boot_of_a_version_finds_the_same_folders(tmp_path: Path) -> None:
    assert caches.prepare(tmp_path, "v1", ()) == caches.prepare(tmp_path, "v1", ())


def test_no_folder_is_shared_with_another_version(tmp_path: Path) -> None:
    first, second = caches.prepare(tmp_path, "v1", ()), caches.prepare(tmp_path, "v2", ())
    assert not set(first.values()) & set(second.values())
    assert all(Path(path).is_relative_to(tmp_path / "v1") for path in first.values())


def test_what_was_compiled_is_apart_from_what_was_fetched(tmp_path: Path) -> None:
    found = caches.prepare(tmp_path, "v1", ())
    assert Path(found["TRITON_CACHE_DIR"]).parent == tmp_path / "v1" / "cpu"
    assert Path(found["HF_HOME"]).parent == tmp_path / "v1"


def test_those_of_a_version_that_is_started_no_more_go(tmp_path: Path) -> None:
    caches.prepare(tmp_path, "old", ())
    caches.prepare(tmp_path, "new", ())
    os.utime(tmp_path / "old", (0, 0))
    caches.remove_old(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
