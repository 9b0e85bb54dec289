"""The client for one container: is it well, predict as an event stream, cancel.

Newer Cog (0.21 on) streams server-sent events; everything older posts to our endpoint. Both end in exactly one `Done`.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from worker.cog import outcome
from worker.cog.exchange import RESPOND_ASYNC, STREAM, Broken, Exchange, Left, Refused, TooLarge
from worker.cog.health import Health, parse, unreachable
from worker.cog.hooks import Hook, HookInbox, Progress, Silence
from worker.cog.leaving import HandedOver, Kept, Line, Told
from worker.cog.stream import translate
from worker.cog.turns import Turns
from worker.events import Done, Event, Started

# Cog answers while its worker checks the model's own healthcheck(), for which it allows 5 s.
HEALTH_TIMEOUT = aiohttp.ClientTimeout(total=7.0)
CONTROL_TIMEOUT = aiohttp.ClientTimeout(total=5.0)
MAX_HEALTH_BYTES = 16 * 1024 * 1024
# Each pause is a tenth of the wait so far, so that looking delays no boot by more than that.
READY_POLL_SECONDS = (0.01, 0.1)
# Cog answers the last prediction before it frees the slot, mostly under 5 ms before.
BUSY_RETRY_SECONDS = 2.0
BUSY_PAUSE_SECONDS = (0.001, 0.005)
# Only what is taken where runs are short waits for a turn. If one of them is not, others may have a free slot.
TURN_SECONDS = 1.0
# A model may be silent for hours: ask the container whether it is still at it.
SILENT_SECONDS = 1.0

ENDED = "The container ended before it was ready: {reason}"
PREDICTION_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


class SetupFailed(Exception):
    """The container will not become ready; the message says why, `logs` what the model's setup printed."""

    def __init__(self, reason: str, logs: str = "") -> None:
        super().__init__(reason)
        self.logs = logs


class CogContainer:
    """`slots` is how many predictions the container takes at once; `output_schema` is its `Output` component."""

    def __init__(
        self,
        base_url: str,
        *,
        session: aiohttp.ClientSession,
        hooks: HookInbox,
        slots: int,
        output_schema: Mapping[str, Any] | None = None,
    ) -> None:
        address = urlsplit(base_url)
        self._url = base_url.rstrip("/")
        self._host = address.hostname or "127.0.0.1"
        self._port = address.port or 80
        self._session = session
        self._hooks = hooks
        self._slots = slots
        self._turns = Turns(slots)
        self._output_type = outcome.OutputType(output_schema)
        self._open: set[Exchange] = set()
        self._dialed: dict[str, Exchange] = {}
        self._leaves = False
        # Until health says more: the older way works with every Cog.
        self._streams = False
        self._refuses_streams = False
        self._classic = True

    async def health(self) -> Health:
        """Never raises: a container that does not answer is `unknown`."""
        try:
            async with self._session.get(f"{self._url}/health-check", timeout=HEALTH_TIMEOUT) as response:
                health = parse(orjson.loads(await _read(response, MAX_HEALTH_BYTES)))
        except (aiohttp.ClientError, TimeoutError) as error:
            return unreachable(error or type(error).__name__)
        except ValueError as error:
            return unreachable(error)
        self._classic = health.version is None
        self._streams = health.streams and not self._refuses_streams
        return health

    async def wait_until_ready(
        self,
        timeout: float,
        exited: Callable[[], Awaitable[str | None]],
        answered: Callable[[Health], None] = lambda health: None,
    ) -> Health:
        """Poll until it takes predictions. Raises SetupFailed when it never will, or not within `timeout` seconds.

        `answered` is told what it answers meanwhile.
        """
        deadline = time.monotonic() + timeout
        pause, slowest = READY_POLL_SECONDS
        while True:
            health = await self.health()
            if health.status != "unknown":
                answered(health)
            if health.accepts_predictions and health.status != "unhealthy":
                return health
            if health.recycle:
                raise SetupFailed(outcome.explain_setup(health.setup_logs), health.setup_logs)
            if health.status == "unknown" and (reason := await exited()):
                raise SetupFailed(ENDED.format(reason=reason), health.setup_logs)
            if time.monotonic() > deadline:
                said = health.error or f"it still says {health.status}"
                raise SetupFailed(f"The model was not ready after {timeout:g} s: {said}", health.setup_logs)
            await asyncio.sleep(pause)
            pause = min(pause * 1.1, slowest)

    @asynccontextmanager
    async def turn(self, prediction_id: str) -> AsyncIterator[None]:
        """To be held around `predict`: where the container is full, its turn comes as soon as a slot is free.

        Raises `TurnMissed`, `TurnCalledOff` after `cancel`, and `HandedOver` after `leave`.
        """
        try:
            async with self._turns.turn(prediction_id, TURN_SECONDS, lambda: self._dial(prediction_id)):
                yield
        finally:
            if unused := self._dialed.pop(prediction_id, None):
                unused.close()

    def predict(self, prediction_id: str, input: Mapping[str, Any], kept: Kept | None = None) -> AsyncIterator[Event]:
        """`Started` when the container takes it, `Done` last. A `Done` alone: it never began, as far as we know.

        Raises for nothing the container does, and `HandedOver` after `leave`; `kept` is what an earlier one was raised
        with, to go on from there. Closing the iterator early cancels the prediction.
        """
        if not PREDICTION_ID.fullmatch(prediction_id):
            raise ValueError(f"{prediction_id!r} is no prediction id: Cog would use it as a path.")
        # Newer Cog rejects null even for an optional input; leaving it out means the same everywhere.
        given = {name: value for name, value in input.items() if value is not None}
        streams = kept.told is None if kept else self._streams
        return (self._stream if streams else self._follow)(prediction_id, given, kept or Kept(None, None))

    def leave(self) -> None:
        """Each prediction that it runs ends with `HandedOver` as soon as it can; to be called until all have."""
        self._leaves = True
        self._hooks.leave()
        self._turns.end(lambda: HandedOver(None))
        for exchange in self._open:
            exchange.leave()

    @property
    def manners(self) -> dict[str, bool]:
        """What its health has told of it, for whoever goes on after `leave`."""
        return {"streams": self._streams, "refuses_streams": self._refuses_streams, "classic": self._classic}

    def remember(self, manners: Mapping[str, bool]) -> None:
        self._streams, self._classic = manners["streams"], manners["classic"]
        self._refuses_streams = manners["refuses_streams"]

    async def cancel(self, prediction_id: str) -> bool:
        """Ask for it to stop; False if the container does not know it, or does not answer."""
        return self._turns.call_off(prediction_id) or await self._post(f"/predictions/{prediction_id}/cancel")

    async def shutdown(self) -> bool:
        """Ask the container to exit; it is the runtime that makes sure."""
        return await self._post("/shutdown")

    async def _stream(self, prediction_id: str, given: dict[str, Any], kept: Kept) -> AsyncIterator[Event]:
        """Newer Cog: one ordered channel for all there is to know."""
        try:
            async with aclosing(self._listen(prediction_id, given, kept.line)) as events:
                async for event in events:
                    yield event
            return
        except Left as left:
            raise HandedOver(Kept(left.line, None)) from None
        except Refused as refusal:
            if refusal.status != 406:
                yield await self._refused(refusal)
                return
        # Its schema does not say x-cog-streaming, and will not next time either.
        self._refuses_streams, self._streams = True, False
        async with aclosing(self._follow(prediction_id, given, Kept(None, None))) as events:
            async for event in events:
                yield event

    async def _listen(self, prediction_id: str, given: dict[str, Any], line: Line | None) -> AsyncIterator[Event]:
        """Raises Refused or Left."""
        try:
            exchange = await self._put(prediction_id, {"input": given}, STREAM, line)
        except Broken as reason:
            yield outcome.unreachable(reason)
            return
        try:
            yield Started()
            while True:
                for event in translate(*await exchange.next(), prediction_id, self._output_type):
                    yield event
                    if type(event) is Done:
                        return
        except TooLarge as reason:
            yield Done("failed", error=outcome.TOO_LARGE.format(reason=reason))
        except Broken as reason:
            yield outcome.gone(reason)
        finally:
            self._close(exchange)

    async def _follow(self, prediction_id: str, given: dict[str, Any], kept: Kept) -> AsyncIterator[Event]:
        """Older Cog: it posts what it has so far, and may forget to."""
        ended = False
        told = kept.told or Told(None)
        with self._hooks.open(prediction_id) as hook:
            try:
                if kept.told is None or kept.line is not None:
                    document = {"input": given, "webhook": hook.url}
                    self._close(await self._put(prediction_id, document, RESPOND_ASYNC, kept.line))
                yield Started()
                async with aclosing(self._watch(hook, told)) as events:
                    async for event in events:
                        ended = type(event) is Done
                        yield event
            except Left as left:
                ended = True
                raise HandedOver(Kept(left.line, Told(hook.latest and dict(hook.latest)))) from None
            except HandedOver:
                ended = True
                raise
            except Refused as refusal:
                ended = True
                yield await self._refused(refusal)
            except Broken as reason:
                ended = True
                yield outcome.unreachable(reason)
            finally:
                # Whoever leaves early, or is cancelled while the container makes up its mind, leaves no work behind.
                if not ended:
                    await self.cancel(prediction_id)

    async def _watch(self, hook: Hook, told: Told) -> AsyncIterator[Event]:
        progress = Progress(self._output_type, classic=self._classic, told=told)
        silence = Silence(slots=self._slots)
        if told.post is not None:
            hook.put(told.post)
        while True:
            post = await hook.next(SILENT_SECONDS)
            if hook.leaves:
                raise HandedOver(Kept(None, progress.told(hook.latest)))
            if post is None:
                if end := silence.judge(await self.health()):
                    yield end
                    return
                continue
            for event in progress.advance(post):
                yield event
                if type(event) is Done:
                    return

    async def _put(self, prediction_id: str, document: dict[str, Any], header: str, line: Line | None) -> Exchange:
        """Retries while the container says busy: it answers a prediction shortly before it frees the slot."""
        body = orjson.dumps({"id": prediction_id, **document})
        deadline = time.monotonic() + BUSY_RETRY_SECONDS
        pause, slowest = BUSY_PAUSE_SECONDS
        while True:
            exchange = await self._connect(prediction_id, body, header, line)
            try:
                await exchange.accepted()
                return exchange
            except Refused as refusal:
                self._close(exchange)
                if refusal.status != 409 or time.monotonic() > deadline:
                    raise
            except BaseException:
                self._close(exchange)
                raise
            line = None
            await asyncio.sleep(pause)
            pause = min(pause * 2, slowest)

    async def _connect(self, prediction_id: str, body: bytes, header: str, line: Line | None) -> Exchange:
        if self._leaves:
            raise HandedOver(None)
        exchange = await (Exchange.resume(line) if line else self._dialed_or_new(prediction_id))
        self._open.add(exchange)
        if line is None:
            exchange.send(self._host, prediction_id, body, header)
        return exchange

    async def _dial(self, prediction_id: str) -> None:
        """So that whoever waits for a turn need not connect then."""
        with suppress(Broken):  # It will be tried again, and then somebody is told.
            self._dialed[prediction_id] = await Exchange.connect(self._host, self._port)

    async def _dialed_or_new(self, prediction_id: str) -> Exchange:
        dialed = self._dialed.pop(prediction_id, None)
        if dialed is not None and not dialed.is_over:
            return dialed
        if dialed is not None:
            dialed.close()
        return await Exchange.connect(self._host, self._port)

    def _close(self, exchange: Exchange) -> None:
        self._open.discard(exchange)
        exchange.close()

    async def _refused(self, refusal: Refused) -> Done:
        health = await self.health()
        if health.recycle:
            return Done("failed", error=outcome.DEAD, container_lost=True)
        if refusal.status == 409:
            return Done("failed", error=outcome.NOT_FREE, container_lost=True)
        return Done(
            "failed",
            error=outcome.refusal_text(refusal.status, refusal.body),
            container_lost=refusal.status >= 500 or not health.accepts_predictions,
        )

    async def _post(self, path: str) -> bool:
        try:
            async with self._session.post(f"{self._url}{path}", timeout=CONTROL_TIMEOUT) as response:
                return response.status < 300
        except (aiohttp.ClientError, TimeoutError):
            # Whoever asked goes on to its deadline and then kills the container.
            return False


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise ValueError(f"its answer is longer than {limit} bytes")
    return bytes(body)
