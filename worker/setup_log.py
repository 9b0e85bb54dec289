"""What a container has written, as a model's author wants to read it. Pure.

Newer Cog writes a JSON document per line, its own beside the model's; older ones, and what breaks, write plain text.
"""

import json

_RUNTIME = "coglet"
#: Under this name Cog passes on what the model prints while it is imported and set up.
_MODEL = "coglet::setup"
#: What Cog says of itself is kept if it is one of these.
_ALARMING = ("ERROR", "WARN")


def readable(raw: str) -> str:
    """The model's own lines, and where Cog's server complains, that, too."""
    return "".join(f"{line}\n" for line in map(_line, raw.splitlines()) if line is not None)


def _line(raw: str) -> str | None:
    try:
        document = json.loads(raw) if raw.startswith("{") else None
    except ValueError:
        return raw
    if not isinstance(document, dict) or not str(document.get("target", "")).startswith(_RUNTIME):
        return raw
    fields = document.get("fields")
    message = fields.get("message") if isinstance(fields, dict) else None
    is_kept = document["target"] == _MODEL or document.get("level") in _ALARMING
    return str(message) if is_kept and message is not None else None
