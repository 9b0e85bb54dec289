"""What a model has said, as far as it may be kept: bounded, and without what Postgres cannot hold. Pure."""

from typing import Any

import orjson

_MAX_METRICS_BYTES = 16 * 1024
_RESERVED_METRICS = ("predict_time", "total_time", "queue_time", "boot_time", "setup_time")


def record(metrics: dict[str, Any], name: str, value: Any, mode: str) -> None:
    match mode:
        case "incr" if isinstance(metrics.get(name, 0), (int, float)) and isinstance(value, (int, float)):
            metrics[name] = metrics.get(name, 0) + value
        case "append":
            metrics[name] = [*metrics.get(name, []), value]
        case _:
            metrics[name] = value


def bounded(metrics: dict[str, Any]) -> dict[str, Any]:
    """What the model counted, unless it is too much; the platform's own names are the platform's."""
    kept = {name: value for name, value in metrics.items() if name not in _RESERVED_METRICS}
    return without_nul(kept) if len(orjson.dumps(kept)) <= _MAX_METRICS_BYTES else {}


def without_nul(value: Any) -> Any:
    """Postgres keeps no NUL characters, and no model needs them."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd") if "\x00" in value else value
    if isinstance(value, list):
        return [without_nul(item) for item in value]
    if isinstance(value, dict):
        return {without_nul(key): without_nul(item) for key, item in value.items()}
    return value
