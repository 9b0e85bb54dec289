"""The keys of one installation, made once and kept in `secrets.json`, which only its owner may read."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from core.ids import new_secret
from core.settings import Settings


@dataclass(frozen=True, slots=True)
class Keys:
    """What signs capability URLs, and the admin's first token. Settings win over what is kept."""

    secret: str
    admin_token: str


def keys(settings: Settings) -> Keys:
    if settings.secret and settings.admin_token:
        return Keys(settings.secret, settings.admin_token)
    path = settings.data / "secrets.json"
    if not path.exists():
        # Of the form of `core.tokens.new_token`; importing that would load the whole database layer.
        write_private(path, json.dumps(asdict(Keys(secret=new_secret(), admin_token=f"mr_{new_secret()}"))))
    kept = Keys(**json.loads(path.read_text()))
    return Keys(settings.secret or kept.secret, settings.admin_token or kept.admin_token)


def write_private(path: Path, text: str) -> None:
    """Whole or not at all, and never readable by others, not even for a moment."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
