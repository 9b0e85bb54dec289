"""Tells the world what a running prediction has said so far: the stream at once, the row and webhooks twice a second.

Predictions that end within half a second, most small ones, pay for nothing but their stream, if they have one.
"""

import asyncio
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import Row
from sqlalchemy.exc import SQLAlchemyError

from core import predictions, streams, webhooks
from core.lifecycle import WebhookEvent
from core.log import get_logger
from core.resources import Resources
from core.schema import OutputKind

log = get_logger()

#: Replicate sends output and logs at most this often; rows are written no oftener either.
INTERVAL_SECONDS = 0.5
# Older log lines make room for newer ones; a model that prints for an hour must not fill the row.
_LOG_CHARACTERS = 1_000_000


class Progress:
    """What one attempt has produced: the truth for its runner, published by the way."""

    def __init__(self, resources: Resources, row: Row, output_kind: OutputKind) -> None:
        self._resources = resources
        self._row = row
        self._kind = output_kind
        self._chunks: list[Any] = []
        self._unsent: list[Any] = []
        self._logs: list[str] = []
        self._changed: set[WebhookEvent] = set()
        self._at_the_end: set[WebhookEvent] = set()
        self._sender: asyncio.Task | None = None
        self._writer: asyncio.Task | None = None
        self._writing = asyncio.Lock()
        self.is_stale = False

    @property
    def logs(self) -> str:
        if len(self._logs) > 1:
            self._logs = ["".join(self._logs)[-_LOG_CHARACTERS:]]
        return self._logs[0] if self._logs else ""

    @property
    def output(self) -> Any:
        """The chunks so far of a model that streams; None for any other, whose output comes whole and at the end."""
        return self._chunks if self._kind.is_iterator and self._chunks else None

    def is_all_of(self, output: Any) -> bool:
        """Whether every part of the final output has passed through here, its files stored: then it is `said`."""
        if self._kind.is_iterator:
            return isinstance(output, list) and len(output) == len(self._chunks)
        return bool(self._chunks)

    @property
    def said(self) -> Any:
        return self._chunks if self._kind.is_iterator else self._chunks[-1]

    def add_log(self, text: str) -> None:
        self._logs.append(text)
        self._note(WebhookEvent.LOGS)

    def add_chunk(self, chunk: Any) -> None:
        self._chunks.append(chunk)
        if self._kind.is_iterator:
            self._note(WebhookEvent.OUTPUT)
        else:
            # It comes whole and with the end: until that is written there is nothing to show.
            self._at_the_end = {WebhookEvent.OUTPUT}
        if self._row.stream_kind:
            self._unsent.append(chunk)
            self._sender = self._sender or asyncio.create_task(self._send())

    async def suspend(self) -> dict[str, Any]:
        """Tells what it is telling to the end, and no more; returns what `resume` needs."""
        async with self._writing:
            if self._writer is not None:
                self._writer.cancel()
        if self._sender is not None:
            await self._sender
        return {
            "chunks": self._chunks,
            "logs": self.logs,
            "changed": sorted(self._changed),
            "at_the_end": sorted(self._at_the_end),
            "is_stale": self.is_stale,
        }

    def resume(self, kept: dict[str, Any]) -> None:
        self._chunks, self._logs, self.is_stale = kept["chunks"], [kept["logs"]], kept["is_stale"]
        self._at_the_end = {WebhookEvent(name) for name in kept["at_the_end"]}
        for name in kept["changed"]:
            self._note(WebhookEvent(name))

    async def close(self) -> None:
        """Sends the chunks that are left and stops; the row's last state is written with the end."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])
        if self._sender is not None:
            await self._sender

    async def tell_whole(self, output: Any) -> None:
        """To whoever listens to a prediction of which nobody knew, when it was created, that its output comes whole."""
        if self._row.stream_kind and not self._chunks and output is not None:
            self._unsent.append(output)
            await self._send()

    async def tell_rest(self) -> None:
        """Once the end is written: passes on what has changed since, for those who did not ask for the end itself."""
        if webhooks.wants(self._row, WebhookEvent.COMPLETED):
            return
        for event in self._changed | self._at_the_end:
            if webhooks.wants(self._row, event):
                await webhooks.pass_on(self._resources.redis, self._row.id, event)

    def _note(self, event: WebhookEvent) -> None:
        self._changed.add(event)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())

    async def _send(self) -> None:
        # Chunks that come while a send is under way travel together in the next one.
        while self._unsent:
            chunks, self._unsent = self._unsent, []
            try:
                await streams.extend(self._resources.redis, self._row.id, chunks)
            except (RedisError, OSError) as error:
                log.warning("stream chunks lost", prediction=self._row.id, count=len(chunks), error=str(error))
        self._sender = None

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            if not self._changed:
                continue
            async with self._writing:
                await self._tell_changes()

    async def _tell_changes(self) -> None:
        changed, self._changed = self._changed, set()
        try:
            await self._write_row()
            for event in changed:
                if webhooks.wants(self._row, event):
                    await webhooks.pass_on(self._resources.redis, self._row.id, event)
        except (SQLAlchemyError, RedisError, OSError) as error:
            self._changed |= changed
            log.warning("progress not written, will try again", prediction=self._row.id, error=str(error))

    async def _write_row(self) -> None:
        async with self._resources.database.autocommit() as tx:
            self.is_stale = not await predictions.append(tx, self._row.id, self._row.attempt, self.output, self.logs)
