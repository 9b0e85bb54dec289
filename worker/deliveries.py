"""Sends webhooks: claims what is due, signs it, posts it, puts the attempt on record.

Terminal events are rows and come back until they are delivered or given up; start, output and logs are sent once. No
redirect is followed, and no private address is called unless the operator allows it. URLs are never logged: their
owners put passwords and keys into them.
"""

import asyncio
import errno
import ipaddress
import socket
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from redis.exceptions import RedisError
from sqlalchemy import Row
from sqlalchemy.exc import SQLAlchemyError
from standardwebhooks import Webhook

from core import files, predictions, webhooks, wire
from core.clock import monotonic, now
from core.ids import new_id
from core.lifecycle import WebhookEvent
from core.log import get_logger
from core.people import accounts
from core.redis import DELIVERY_BELL
from core.resources import Resources

log = get_logger()

#: Receivers must answer 2xx "within a few seconds".
_TIMEOUT = aiohttp.ClientTimeout(total=15, connect=5)
_CONCURRENT = 64
#: With nothing due the sender sleeps at most this long, so that a lost bell costs no more.
_LONGEST_NAP_SECONDS = 5.0
_RETRY_SECONDS = 1.0
_ERROR_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Posted:
    """One try: a status, or why there was none; with a redirect's status, where to."""

    http_status: int | None
    error: str | None
    duration_ms: int


def public_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """The socket for a connection to a public address; raises for any other, however the URL or a name spelled it."""
    family, kind, protocol, _, (host, *_) = address
    if not ipaddress.ip_address(host).is_global:
        raise OSError(errno.EACCES, f"{host} is a private address, and this server calls no private ones")
    return socket.socket(family, kind, protocol)


class Sender:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._http: aiohttp.ClientSession
        self._room = asyncio.Semaphore(_CONCURRENT)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. What is in flight then stays claimed and is due again after a minute."""
        # Asked at the moment of connecting, so that no later answer of a name server slips past.
        socket_factory = None if self._resources.settings.allow_private_webhooks else public_socket
        connector = aiohttp.TCPConnector(socket_factory=socket_factory, limit=_CONCURRENT)
        async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as self._http:
            turning = asyncio.create_task(self._turn_for_ever())
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait([turning, stopped], return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            turning.cancel()
            await asyncio.wait([turning])
            if not stop.is_set():
                turning.result()

    async def _turn_for_ever(self) -> None:
        async with asyncio.TaskGroup() as posts:
            while True:
                try:
                    await self._send_due(posts)
                    await self._send_passing(posts)
                    await self._nap()
                except (SQLAlchemyError, RedisError, OSError) as error:
                    log.warning("deliveries not looked at, will try again", error=str(error))
                    await asyncio.sleep(_RETRY_SECONDS)

    async def _send_due(self, posts: asyncio.TaskGroup) -> None:
        while True:
            await self._room.acquire()
            self._room.release()
            async with self._resources.database.transaction() as tx:
                due = await webhooks.claim_due(tx, _CONCURRENT)
            for delivery in due:
                await self._room.acquire()
                posts.create_task(self._deliver(delivery))
            if len(due) < _CONCURRENT:
                return

    async def _send_passing(self, posts: asyncio.TaskGroup) -> None:
        while passing := await webhooks.collect_passing(self._resources.redis, _CONCURRENT):
            for prediction_id, event in passing:
                await self._room.acquire()
                posts.create_task(self._pass_on(prediction_id, event))

    async def _nap(self) -> None:
        async with self._resources.database.autocommit() as tx:
            wait = await webhooks.seconds_to_next(tx)
        nap = _LONGEST_NAP_SECONDS if wait is None else min(max(wait, 0.01), _LONGEST_NAP_SECONDS)
        await self._resources.redis.blpop([DELIVERY_BELL], timeout=nap)

    async def _deliver(self, delivery: Row) -> None:
        try:
            body = await self._body_of(delivery)
            if body is None:
                # Deleted meanwhile, and what it owed with it.
                return
            posted = await self._post(delivery.url, delivery.id, delivery.account_id, body)
            async with self._resources.database.transaction() as tx:
                status = await webhooks.record_attempt(
                    tx, delivery, posted.http_status, posted.error, posted.duration_ms
                )
            log.info("webhook attempt", delivery=delivery.id, http_status=posted.http_status, status=status)
        except SQLAlchemyError as error:
            # Still claimed: due again when the claim runs out, and then perhaps sent twice, which receivers expect.
            log.warning("attempt not recorded", delivery=delivery.id, error=str(error))
        finally:
            self._room.release()

    async def _pass_on(self, prediction_id: str, event: WebhookEvent) -> None:
        try:
            row = await self._find(prediction_id)
            if row is None or self._is_overtaken(row):
                return
            posted = await self._post(row.webhook_url, f"msg_{new_id()}", row.account_id, self._shown(row))
            log.info("webhook passed on", prediction=prediction_id, event_name=event, http_status=posted.http_status)
        except SQLAlchemyError as error:
            log.warning("passing webhook lost", prediction=prediction_id, error=str(error))
        finally:
            self._room.release()

    def _is_overtaken(self, row: Row) -> bool:
        """Whether its end, which says everything, is told as well."""
        return row.completed_at is not None and webhooks.wants(row, WebhookEvent.COMPLETED)

    async def _find(self, prediction_id: str) -> Row | None:
        async with self._resources.database.autocommit() as tx:
            return await predictions.find(tx, prediction_id)

    async def _body_of(self, delivery: Row) -> dict[str, Any] | None:
        """What a delivery says: its own, or the prediction as it is now; None: that is gone."""
        if delivery.body is not None:
            return delivery.body
        row = await self._find(delivery.prediction_id)
        return None if row is None else self._shown(row)

    def _shown(self, row: Row) -> dict[str, Any]:
        """The same as `GET /v1/predictions/<id>`, with files as URLs."""
        settings = self._resources.settings
        return wire.prediction(settings, row, files.with_urls(settings, row.output))

    async def _post(self, url: str, message_id: str, account_id: str, message: dict[str, Any]) -> Posted:
        body = orjson.dumps(message)
        headers = {
            "content-type": "application/json",
            "user-agent": "Millrace-Webhooks/1",
            **await self._signed(account_id, message_id, body),
        }
        began = monotonic()
        http_status, error = None, None
        try:
            async with self._http.post(url, data=body, headers=headers, allow_redirects=False) as response:
                http_status, error = response.status, _redirected(response)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as failure:
            error = str(failure) or type(failure).__name__
        return Posted(http_status, error and storable(error), int((monotonic() - began) * 1000))

    async def _signed(self, account_id: str, message_id: str, body: bytes) -> dict[str, str]:
        async with self._resources.database.autocommit() as tx:
            secrets = await accounts.signing_secrets(tx, account_id)
        moment = now()
        # Any that fits will do for a receiver, so each may know another secret while one replaces the other.
        signatures = [Webhook(secret).sign(message_id, moment, body.decode()) for secret in secrets]
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": " ".join(signatures),
        }


def _redirected(response: aiohttp.ClientResponse) -> str | None:
    location = response.headers.get("Location")
    if location is None or not 300 <= response.status < 400:
        return None
    return f"It redirects to {location}; redirects are not followed, so give the URL at which they end."


def storable(text: str) -> str:
    """Without what no row takes, such as NUL: part of it was written by the receiver."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text[:_ERROR_CHARACTERS])
