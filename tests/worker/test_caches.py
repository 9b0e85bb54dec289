"""What an owner's models fetched or compiled is there at their next boot, and no other owner's to read or write."""

import os
from pathlib import Path

import pytest

from worker import caches


def test_the_models_of_an_owner_share_their_folders(tmp_path: Path) -> None:
    assert caches.prepare(tmp_path, "ada", ()) == caches.prepare(tmp_path, "ada", ())


def test_no_folder_is_shared_with_another_owner(tmp_path: Path) -> None:
    first, second = caches.prepare(tmp_path, "ada", ()), caches.prepare(tmp_path, "bob", ())
    assert not set(first.values()) & set(second.values())
    assert all(Path(path).is_relative_to(tmp_path / "ada") for path in first.values())


def test_what_was_compiled_is_apart_from_what_was_fetched(tmp_path: Path) -> None:
    found = caches.prepare(tmp_path, "ada", ())
    assert Path(found["TRITON_CACHE_DIR"]).parent == tmp_path / "ada" / "cpu"
    assert Path(found["HF_HUB_CACHE"]).parent == tmp_path / "ada"


def test_a_token_that_a_model_logs_in_with_is_not_kept(tmp_path: Path) -> None:
    """Libraries keep it below HF_HOME."""
    assert "HF_HOME" not in caches.prepare(tmp_path, "ada", ())


@pytest.mark.parametrize(
    ("environment", "brings", "missing"),
    [
        ({"HF_HOME"}, (), {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}),
        ({"TORCH_HOME"}, (), {"TORCH_HOME"}),
        ({"XDG_CACHE_HOME"}, (), {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TORCH_HOME"}),
        ({"TRITON_CACHE_DIR", "PATH"}, (), {"TRITON_CACHE_DIR"}),
        ((), {"torch"}, {"TORCH_HOME"}),
    ],
)
def test_what_a_model_places_itself_or_brings_along_stays_there(
    environment: set[str], brings: set[str], missing: set[str]
) -> None:
    every = caches.variables("/cache", "cpu")
    assert set(every) - set(caches.variables("/cache", "cpu", environment=environment, brings=brings)) == missing


def test_those_of_an_owner_whose_models_are_started_no_more_go(tmp_path: Path) -> None:
    caches.prepare(tmp_path, "old", ())
    os.utime(tmp_path / "old", (0, 0))
    caches.prepare(tmp_path, "new", ())
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
