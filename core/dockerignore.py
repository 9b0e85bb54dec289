"""Which files of a Cog project stay at home, by the rules of `.dockerignore`.

What Cog would leave out of an image must not reach a bundle either: it may be a secret or 50 GB of training data.
"""

import re
from collections.abc import Callable, Iterable
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


def ignored(folder: Path) -> Callable[[str], bool]:
    """A predicate on paths relative to `folder`, with forward slashes. An ignored folder hides all below it."""
    path = folder / ".dockerignore"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    own = _rules(lines)
    always = _rules(ALWAYS_IGNORED)

    def is_ignored(relative: str) -> bool:
        return _last_match(always, relative) or _last_match(own, relative)

    return is_ignored


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
