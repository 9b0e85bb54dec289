"""One `PUT /predictions/{id}` on a TCP connection of its own, and the server-sent events that may answer it.

Raw asyncio rather than aiohttp, because this is the hot path. Measured against Cog 0.23.1, a no-op on a fresh
connection: aiohttp 2.3 ms and 1.2 ms of our CPU, this 1.6 ms and 0.7 ms. Fresh, because Cog does not set TCP_NODELAY
(the first chunk on a reused connection comes 43 ms late), and because a PUT that a pool repeats would run twice.
HTTP/1.0 keeps the body free of chunk framing.
"""

import asyncio
import os
import socket
from typing import Any

import orjson

from worker.cog.leaving import Line

MAX_EVENT_BYTES = 64 * 1024 * 1024
MAX_STREAM_BYTES = 4 * MAX_EVENT_BYTES
MAX_REFUSAL_BYTES = 64 * 1024
# On the same machine or its bridge: a container that takes longer to connect does not run.
CONNECT_SECONDS = 5.0
# On a stream Cog sends a comment every 15 s, whatever the model does; four missing mean that nobody is there.
# Until then it may be reading and validating an input with 100 MB of data URIs.
SILENCE_SECONDS = 60.0

STREAM = "Accept: text/event-stream"
RESPOND_ASYNC = "Prefer: respond-async"
REQUEST = (
    "PUT /predictions/{id} HTTP/1.0\r\nHost: {host}\r\n{header}\r\n"
    "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
)


class Refused(Exception):
    """The container answered, but did not take the prediction."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.body = body


class Broken(Exception):
    """The connection ended before the prediction did; the message says how."""


class TooLarge(Broken):
    """More was sent than we are willing to hold; the message says how much."""


class Left(Exception):
    """`leave` was called, and this is where the next process goes on."""

    def __init__(self, line: Line) -> None:
        super().__init__("handed over")
        self.line = line


class Exchange:
    """A PUT, accepted or about to be. Closing one that streams, before its end, cancels the prediction.

    `leave` ends that: whoever waits for `accepted` or `next` gets `Left` with a copy of the connection, and the
    container notices nothing.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._received = 0
        self._is_accepted = False
        self._leaves = False
        self._silent = False
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(SILENCE_SECONDS, self._check_silence)

    @classmethod
    async def connect(cls, host: str, port: int) -> "Exchange":
        """Raises Broken."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return cls(*await asyncio.open_connection(host, port, limit=MAX_EVENT_BYTES))
        except OSError as error:
            raise Broken("it cannot be connected to") from error

    @classmethod
    async def resume(cls, line: Line) -> "Exchange":
        """One that an earlier process left; closes the connection where it cannot be used."""
        connection = socket.socket(fileno=line.fd)
        try:
            connection.setblocking(False)
            loop = asyncio.get_running_loop()
            reader = asyncio.StreamReader(limit=MAX_EVENT_BYTES, loop=loop)
            # Before the transport can add what it reads.
            reader.feed_data(line.unread)
            protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
            transport, _ = await loop.create_connection(lambda: protocol, sock=connection)
        except BaseException:
            connection.close()
            raise
        exchange = cls(reader, asyncio.StreamWriter(transport, protocol, reader, loop))
        exchange._received, exchange._is_accepted = line.received, line.accepted
        return exchange

    def send(self, host: str, prediction_id: str, body: bytes, header: str) -> None:
        """`header` is STREAM or RESPOND_ASYNC."""
        head = REQUEST.format(id=prediction_id, host=host, header=header, length=len(body))
        self._writer.write(head.encode() + body)

    @property
    def is_over(self) -> bool:
        """The other end has closed it."""
        return self._reader.at_eof() or self._writer.transport.is_closing()

    async def accepted(self) -> None:
        """Raises Refused, Broken or Left."""
        if self._is_accepted:
            return
        head = await self._until(b"\r\n\r\n")
        protocol, _, status = head[:12].partition(b" ")
        if not protocol.startswith(b"HTTP/") or not status.isdigit():
            raise Broken("it does not speak HTTP")
        if not status.startswith(b"2"):
            body = await self._rest()
            if self._leaves:  # Perhaps not all of it: the next one reads it once more.
                raise Left(self._line(head + body))
            raise Refused(int(status), body)
        self._is_accepted = True

    async def next(self) -> tuple[bytes, Any]:
        """The next event's name and payload. Raises Broken, TooLarge or Left."""
        while True:
            block = await self._until(b"\n\n")
            self._received += len(block)
            if self._received > MAX_STREAM_BYTES:
                raise TooLarge(f"over {MAX_STREAM_BYTES >> 20} MiB in all")
            name, data = b"", []
            for line in block.split(b"\n"):
                field, _, value = line.partition(b":")
                if field == b"data":
                    data.append(value)
                elif field == b"event":
                    name = value.strip()
            if data:
                try:
                    return name, orjson.loads(b"\n".join(data))
                except ValueError as error:
                    raise Broken("it sent what is not JSON") from error

    def leave(self) -> None:
        """Reads nothing more; what has been read and is a whole event already is still returned."""
        transport = self._writer.transport
        if self._leaves or transport.is_closing() or transport.get_write_buffer_size():
            return  # Its end, or its acceptance, is under way; what has not been sent cannot be left to others.
        self._leaves = True
        if transport.is_reading():
            transport.pause_reading()
        self._reader.feed_eof()

    def close(self) -> None:
        self._timer.cancel()
        self._writer.transport.abort()

    async def _until(self, separator: bytes) -> bytes:
        try:
            block = await self._reader.readuntil(separator)
        except asyncio.LimitOverrunError as error:
            raise TooLarge(f"over {MAX_EVENT_BYTES >> 20} MiB at once") from error
        except (asyncio.IncompleteReadError, OSError) as error:
            if self._leaves and isinstance(error, asyncio.IncompleteReadError):
                raise Left(self._line(error.partial)) from None
            raise self._broken() from error
        self._heard_at = self._loop.time()
        return block

    async def _rest(self) -> bytes:
        body = b""
        try:
            while len(body) < MAX_REFUSAL_BYTES and (chunk := await self._reader.read(MAX_REFUSAL_BYTES)):
                body += chunk
        except OSError as error:
            raise self._broken() from error
        return body

    def _line(self, unread: bytes) -> Line:
        fd = os.dup(self._writer.get_extra_info("socket").fileno())
        return Line(fd, unread, self._received, self._is_accepted)

    def _broken(self) -> Broken:
        return Broken(f"it was silent for {SILENCE_SECONDS:g} s" if self._silent else "it closed the connection")

    def _check_silence(self) -> None:
        """One timer for the whole exchange: a timeout around each read costs 20 us per event."""
        left = self._heard_at + SILENCE_SECONDS - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check_silence)
        else:
            self._silent = True
            self._writer.transport.abort()
