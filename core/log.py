"""Structured logs: one line per event, to stderr, secrets never among the fields."""

import logging
import re
import sys

import structlog

from core.settings import Settings

_SECRET = re.compile(r"(token|secret|password|authorization|api_key)", re.IGNORECASE)


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
        last = [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    else:
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
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


get_logger = structlog.get_logger
