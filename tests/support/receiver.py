"""A real webhook receiver on loopback, which verifies every signature with the `standardwebhooks` package."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError


@dataclass(frozen=True, slots=True)
class Received:
    message_id: str
    body: dict[str, Any]


@dataclass(slots=True)
class Receiver:
    """What came, by prediction, in the order in which it came; `refused` says what carried no valid signature."""

    url: str
    secret: str
    received: dict[str, list[Received]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(map(len, self.received.values()))

    async def receive(self, request: web.Request) -> web.Response:
        content = await request.read()
        try:
            body = Webhook(self.secret).verify(content, dict(request.headers))
        except WebhookVerificationError as error:
            self.refused.append(f"{error}: {content[:200]!r}")
            return web.Response(status=401)
        self.received.setdefault(body["id"], []).append(Received(request.headers["webhook-id"], body))
        return web.Response()


@asynccontextmanager
async def running_receiver(secret: str) -> AsyncIterator[Receiver]:
    """`secret` is the account's, as `GET /v1/webhooks/default/secret` gives it."""
    receiver = Receiver("", secret)
    app = web.Application()
    app.router.add_post("/hook", receiver.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        receiver.url = f"http://127.0.0.1:{port}/hook"
        yield receiver
    finally:
        await runner.cleanup()
