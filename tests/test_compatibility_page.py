"""docs/compatibility.md names a test for each operation and each trap: they are there, and so is every operation."""

import re
from pathlib import Path

from api.main import create_app
from core.settings import Settings

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/compatibility.md").read_text()


def test_every_test_that_the_page_names_is_there() -> None:
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", PAGE)
    missing = [f"{path}::{name}" for path, name in named if f"def {name}(" not in _source(path)]
    assert len(named) > 80
    assert missing == []


def test_every_operation_on_the_page_is_in_our_own_document() -> None:
    paths = create_app(Settings(data=ROOT)).openapi()["paths"]
    ours = {operation["operationId"] for path in paths.values() for operation in path.values()}
    listed = re.findall(r"^\| `([\w.]+)` \|", PAGE, re.MULTILINE)
    assert len(set(listed)) == 37
    assert set(listed) - ours == set()


def _source(path: str) -> str:
    file = ROOT / "tests" / path
    return file.read_text() if file.exists() else ""
