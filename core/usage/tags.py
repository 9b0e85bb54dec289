"""Tags: by which an Account tells its costs apart. `team=vision, project=catalogue`. Pure."""

import re

from core.errors import BadRequest

MOST_TAGS = 8
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,63}")
_VALUE = re.compile(r"[ -~]{0,127}")


def parse(header: str | None) -> dict[str, str] | None:
    """Raises `BadRequest`."""
    pairs = [pair.strip() for pair in (header or "").split(",") if pair.strip()]
    if not pairs:
        return None
    if len(pairs) > MOST_TAGS:
        raise BadRequest(f"X-Millrace-Tags holds {len(pairs)} tags; at most {MOST_TAGS} are kept.")
    tags: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (equals and _NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            raise BadRequest(
                f"X-Millrace-Tags: {pair[:80]!r} is no tag; write them like team=vision, project=catalogue."
            )
        if name in tags:
            raise BadRequest(f"X-Millrace-Tags names {name} twice.")
        tags[name] = value
    return tags
