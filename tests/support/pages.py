"""Pages of docs/ that promise, and name for each promise the test that holds it: `path/below/tests.py::test_name`."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def named_tests(text: str) -> list[tuple[str, str]]:
    """Path and name of each."""
    return re.findall(r"`([\w/]+\.py)::(test_\w+)`", text)


def missing_tests(text: str) -> list[str]:
    """Those that are not there."""
    return [f"{path}::{name}" for path, name in named_tests(text) if f"def {name}(" not in _source(path)]


def _source(path: str) -> str:
    file = ROOT / "tests" / path
    return file.read_text() if file.exists() else ""
