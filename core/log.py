"""Structured logs: one line per event, to stderr, secrets never among the fields."""

import logging
import re
import sys

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from core.settings import Settings

_SECRET = re.compile(r"(token|secret|password|authorization|api_key)", re.IGNORECASE)
# Without local variables, which hold tokens, secrets and inputs.
_TRACEBACKS = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))


def _redact(_logger: object, _method: str, event: dict) -> dict:
    for key in event:
        if _SECRET.search(key):
            event[key] = "[redacted]"
    return event


def configure(settings: Settings, process: str) -> None:
    """Sets up structlog and the standard library's logging alike. Call once, first thing in `main`."""
    level = logging.getLevelName(settings.log_level.upper())
    shared = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _redact,
    ]
    if settings.log_json:
        last = [_TRACEBACKS, structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    logging.basicConfig(
        level=max(level, logging.WARNING), stream=sys.stderr, format="%(levelname)s %(name)s %(message)s"
    )


def process_name() -> str:
    """As `configure` was told; `millrace` in a process that was told nothing."""
    return structlog.contextvars.get_contextvars().get("process", "millrace")


get_logger = structlog.get_logger
