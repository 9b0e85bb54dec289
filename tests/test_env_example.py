"""`.env.example` says what an operator may set, and nothing else."""

import re
from pathlib import Path

from core.settings import Settings

ROOT = Path(__file__).parents[1]
EXAMPLE = (ROOT / ".env.example").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()


def test_every_setting_stands_there_with_its_meaning_and_its_default() -> None:
    missing = [line for line in map(_entry, Settings.model_fields) if line not in EXAMPLE]
    assert not missing, "Put these into .env.example:\n\n" + "\n".join(missing)


def test_nothing_stands_there_that_is_neither_a_setting_nor_used_by_compose() -> None:
    listed = set(re.findall(r"^#?([A-Z][A-Z_]+)=", EXAMPLE, re.MULTILINE))
    settings = {f"MILLRACE_{name.upper()}" for name in Settings.model_fields}
    assert listed == settings | set(re.findall(r"\$\{([A-Z_]+)", COMPOSE))


def test_compose_requires_what_has_no_safe_default() -> None:
    required = set(re.findall(r"\$\{([A-Z_]+):\?", COMPOSE))
    assert required == {"MILLRACE_SECRET", "MILLRACE_ADMIN_TOKEN", "POSTGRES_PASSWORD"}
    for name in required:
        assert f"\n{name}=\n" in EXAMPLE


def _entry(name: str) -> str:
    field = Settings.model_fields[name]
    value = "" if field.default is None else str(field.default).lower() if field.annotation is bool else field.default
    comment = "" if name in ("secret", "admin_token") else "#"
    return f"# {field.description}\n{comment}MILLRACE_{name.upper()}={value}\n"
