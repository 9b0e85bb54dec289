"""What a setup prints is shown as its author wrote it, whichever Cog passes it on."""

import json

from worker.cog.health import parse
from worker.setup_log import readable


def line(target: str, message: str, level: str = "INFO") -> str:
    return json.dumps({"level": level, "fields": {"message": message}, "target": target})


def test_of_newer_cogs_lines_the_models_own_are_left() -> None:
    raw = [
        line("coglet", "Server ready"),
        line("coglet::setup", "loading weights"),
        "Traceback (most recent call last):",
    ]
    assert readable("\n".join(raw)) == "loading weights\nTraceback (most recent call last):\n"


def test_what_cog_complains_of_is_kept() -> None:
    assert readable(line("coglet::worker", "no such class", "ERROR")) == "no such class\n"


def test_a_model_may_print_json() -> None:
    raw = '{"loss": 0.5}\n{"target": 3, "fields": 1}\n{broken\n'
    assert readable(raw) == raw


def test_health_has_the_models_lines_of_a_setup_without_cogs() -> None:
    logs = "[coglet] python 3.11.7\n[coglet::setup] loading weights\n[coglet::worker] Schema loaded\n"
    assert parse({"status": "READY", "setup": {"logs": logs}}).setup_logs == "loading weights\n"
