"""The api process: HTTP in, HTTP out. Knows nothing of containers."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI
from sqlalchemy import text

from api import docs, errors, web
from api.aliases import Aliases
from api.body import BodyLimit
from api.dependencies import StateDep
from api.protocol import HttpProtocol
from api.ratelimit import RateLimitHeaders
from api.responses import Json
from api.routes import v1
from api.state import State
from core import collector, health
from core.log import configure
from core.payments.payment_providers import open_payments
from core.resources import open_resources
from core.settings import Settings, get_settings

_TITLE = "Millrace"
_VERSION = "0.1.0"
#: Requests get this long to be answered when the process is asked to stop.
_SHUTDOWN_SECONDS = 5
_BACKLOG = 2048


def create_app(settings: Settings) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_resources(settings) as resources, open_payments(settings) as payments:
            state = app.state.millrace = State(resources, payments)
            tasks = [
                asyncio.create_task(state.waiter.listen()),
                asyncio.create_task(health.keep_beating(settings, "api")),
            ]
            yield
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    app = FastAPI(
        title=_TITLE,
        version=_VERSION,
        lifespan=lifespan,
        openapi_url=None,
        # Its location would be built from whatever host the client named.
        redirect_slashes=False,
    )
    errors.install(app)
    app.include_router(v1)
    docs.install(app, settings)
    web.install(app)
    app.add_api_route("/health", _health, include_in_schema=False)
    app.add_middleware(BodyLimit, json_bytes=settings.body_bytes, upload_bytes=settings.upload_bytes)
    app.add_middleware(RateLimitHeaders)
    app.add_middleware(Aliases)
    return app


async def _health(state: StateDep) -> Json:
    """200 while requests can be served: Postgres must answer, Redis may be away for a moment."""
    async with state.database.autocommit() as tx:
        await tx.execute(text("SELECT 1"))
    return Json({"status": "ok"})


class _Server(uvicorn.Server):
    """Answers who is held by `Prefer: wait` as soon as it is asked to stop; the clients ask again for what they got."""

    def __init__(self, app: FastAPI, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._app = app
        self._loop: asyncio.AbstractEventLoop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self.started:
            self._loop.call_soon_threadsafe(self._app.state.millrace.waiter.release)


def main() -> None:
    settings = get_settings()
    configure(settings, "api")
    collector.relax()
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        http=HttpProtocol,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        timeout_keep_alive=75,
    )
    server = _Server(app, config)
    server.run()
    if not server.started:
        sys.exit(1)
