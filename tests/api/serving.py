"""The real app, served by uvicorn in a thread of its own, as the api process serves it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import uvicorn
from fastapi import FastAPI

from api.main import create_app
from api.protocol import HttpProtocol
from core.log import configure
from core.settings import Settings
from tests.support.ports import free_port

START_SECONDS = 30


@contextmanager
def serving(settings: Settings, extend: Callable[[FastAPI], None] | None = None) -> Iterator[Settings]:
    """Gives the settings with which it is served: `url` is where it answers. `extend` may add routes of a test."""
    port = free_port()
    settings = settings.model_copy(update={"port": port, "public_url": f"http://127.0.0.1:{port}"})
    app = create_app(settings)
    if extend is not None:
        extend(app)
    config = uvicorn.Config(
        app,
        http=HttpProtocol,
        host="127.0.0.1",
        port=port,
        log_config=None,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=1,
    )
    _log()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + START_SECONDS
        while not server.started:
            assert thread.is_alive(), "The api ended while it started."
            assert time.monotonic() < deadline, "The api did not start."
            time.sleep(0.02)
        yield settings
    finally:
        server.should_exit = True
        thread.join(START_SECONDS)


@cache
def _log() -> None:
    """Once, as a process does: loggers keep what they were first used with."""
    configure(Settings(), "api")
