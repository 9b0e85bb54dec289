"""The keys of one installation, made once and kept in `secrets.json`, which only its owner may read."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from core.ids import new_secret
from core.settings import Settings


@dataclass(frozen=True, slots=True)
class Keys:
    """What signs capability URLs, the admin's first token and first password. Settings win over what is kept."""

    secret: str
    admin_token: str
    admin_password: str


# 80 bits, which somebody may have to type.
_PASSWORD_LENGTH = 20
_MAKERS = {
    "secret": new_secret,
    # Of the form of `core.people.tokens.new_token`; importing that would load the whole database layer.
    "admin_token": lambda: f"mr_{new_secret()}",
    "admin_password": lambda: new_secret()[:_PASSWORD_LENGTH],
}


def secrets_file(settings: Settings) -> Path:
    return settings.data / "secrets.json"


def keys(settings: Settings) -> Keys:
    given = {name: value for name in _MAKERS if (value := getattr(settings, name))}
    if given.keys() == _MAKERS.keys():
        return Keys(**given)
    path = secrets_file(settings)
    kept = json.loads(path.read_text()) if path.exists() else {}
    if missing := {name: make() for name, make in _MAKERS.items() if name not in kept}:
        kept |= missing
        write_private(path, json.dumps(kept))
    return Keys(**{**kept, **given})


def write_private(path: Path, text: str) -> None:
    """Whole or not at all, and never readable by others, not even for a moment."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
