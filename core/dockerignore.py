"""Which files of a Cog project stay at home, by the rules of `.dockerignore`.

What Cog would leave out of an image must not reach a bundle either: it may be a secret or 50 GB of training data.
"""

import re
from collections.abc import Iterable
from pathlib import Path

# Made by machines, or never part of a model.
ALWAYS_IGNORED = (
    "**/.git",
    "**/.hg",
    "**/.cog",
    "**/.venv",
    "**/__pycache__",
    "**/*.pyc",
    "**/.DS_Store",
    "**/.pytest_cache",
    "**/.ruff_cache",
    "**/.mypy_cache",
    "**/.ipynb_checkpoints",
)


class Dockerignore:
    """The rules of one project. Paths are relative to it, with forward slashes."""

    def __init__(self, folder: Path) -> None:
        path = folder / ".dockerignore"
        self._own = _rules(path.read_text(encoding="utf-8").splitlines() if path.is_file() else [])
        self._always = _rules(ALWAYS_IGNORED)
        self._has_exceptions = any(not ignores for _, ignores in self._own)

    def covers(self, relative: str) -> bool:
        return _last_match(self._always, relative) or _last_match(self._own, relative)

    def covers_all_below(self, relative: str) -> bool:
        """Whether the folder need not be entered; with exceptions (`!keep`) something in it may be wanted."""
        return _last_match(self._always, relative) or (not self._has_exceptions and self.covers(relative))


def _rules(lines: Iterable[str]) -> list[tuple[re.Pattern[str], bool]]:
    rules = []
    for line in lines:
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        ignores = not pattern.startswith("!")
        rules.append((_compile(pattern.lstrip("!").strip().strip("/")), ignores))
    return rules


def _last_match(rules: list[tuple[re.Pattern[str], bool]], relative: str) -> bool:
    """The last rule that matches decides, as in Docker."""
    result = False
    for pattern, ignores in rules:
        if pattern.match(relative):
            result = ignores
    return result


def _compile(pattern: str) -> re.Pattern[str]:
    """Rooted; `*` and `?` stay within one name, `**` crosses folders; a match covers all that is below."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern)
    translated = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    body = "".join(translated.get(part, part if part.startswith("[") else re.escape(part)) for part in parts)
    return re.compile(f"{body}(?:/.*)?$")
