"""What a node and the gateway say to each other: services by name, one line of JSON each way, then bytes.

A connection is TLS 1.3 and for one service, which the client names by ALPN. The gateway speaks first: `{}`, or
`{"error": …, "is_final": …}` and hangs up.
"""

import asyncio
import socket
from enum import StrEnum
from typing import Any

import orjson

from core.errors import Unavailable
from core.settings import Settings

#: So much is read ahead; no line is nearly as long.
READ_BYTES = 256 * 1024
#: What is needed for one exchange of lines; the database is asked in between.
ANSWER_SECONDS = 15.0


class Service(StrEnum):
    """Each but the first two for those alone who show a certificate of theirs."""

    AUTHORITY = "millrace-authority/1"  #: The authority's certificate, for whoever asks; it is in no way secret.
    MEMBERSHIP = "millrace-membership/1"  #: Certificates and settings; for a join token, or for a certificate.
    POSTGRES = "millrace-postgres/1"
    REDIS = "millrace-redis/1"
    FILES = "millrace-files/1"


#: What is the same on every machine of an installation; `public_url` is given as it is used.
SHARED_SETTINGS = (
    *("installation", "secret", "file_outputs", "inline_file_bytes", "show_aborted"),
    *("node_lease_seconds", "node_heartbeat_seconds", "cancel_grace_seconds"),
)


def shared_settings(settings: Settings) -> dict[str, Any]:
    return {**{name: getattr(settings, name) for name in SHARED_SETTINGS}, "public_url": settings.url}


class Refused(Exception):
    """The gateway's own words. `is_final`: asking again changes nothing."""

    def __init__(self, sentence: str, is_final: bool) -> None:
        super().__init__(sentence)
        self.is_final = is_final


async def read_line(reader: asyncio.StreamReader) -> dict[str, Any]:
    """Raises `Refused` where it says so, `Unavailable` where it ends before a line has."""
    try:
        line = await reader.readuntil(b"\n")
        said = orjson.loads(line)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, orjson.JSONDecodeError):
        raise Unavailable("The other side hung up in the middle of a word.") from None
    if not isinstance(said, dict):
        raise Unavailable("The other side does not speak as nodes and gateways do.")
    if error := said.get("error"):
        raise Refused(str(error), bool(said.get("is_final")))
    return said


async def write_line(writer: asyncio.StreamWriter, said: dict[str, Any]) -> None:
    writer.write(orjson.dumps(said) + b"\n")
    await writer.drain()


async def exchange(
    one: tuple[asyncio.StreamReader, asyncio.StreamWriter], other: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    """Passes bytes both ways until either side hangs up, then hangs up on both."""
    ways = [asyncio.create_task(_pass(one[0], other[1])), asyncio.create_task(_pass(other[0], one[1]))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.wait(ways)
        for _, writer in (one, other):
            hang_up(writer)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(READ_BYTES):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        return  # Broken rather than closed, which is all the same to the other side.


def hang_up(writer: asyncio.StreamWriter) -> None:
    """At once where nothing is left to be sent, and within seconds where it is."""
    writer.close()
    asyncio.get_running_loop().call_later(_LINGER_SECONDS, writer.transport.abort)


def notice_cuts(connection: socket.socket) -> None:
    """A network that is cut says nothing: the kernel asks after a quiet peer, and gives up on one that is silent."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _ASK_AFTER_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _ASK_AFTER_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_MS)


_LINGER_SECONDS = 5.0
# A node notices with the next beat of its heart, and must have time left within its lease to try anew.
_ASK_AFTER_SECONDS = 3
_SILENCE_MS = 8_000
