"""Takes connections from other machines: TLS 1.3, a certificate of ours, and then bytes to where the node wants to go.

Knows neither what Postgres and Redis are nor what a node does with them. It asks the rows who is let in, at each
connection, and once a second about those that are open.
"""

import asyncio
import contextlib
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from sqlalchemy import Row
from sqlalchemy.exc import SQLAlchemyError

from api.gateway.membership import Membership
from api.gateway.upstreams import Upstream
from core.errors import MillraceError
from core.joining import members
from core.joining.certificates import Authority
from core.joining.wire import (
    ANSWER_SECONDS,
    READ_BYTES,
    Refused,
    Service,
    exchange,
    hang_up,
    notice_cuts,
    read_line,
    write_line,
)
from core.log import get_logger
from core.resources import Resources

log = get_logger()

_WATCH_SECONDS = 1.0
_HANDSHAKE_SECONDS = 10.0
#: Of those that nobody knows yet: more would be no nodes.
_MOST_HANDSHAKES = 64
_BACKLOG = 512
#: After the system refused one more connection: it has run out of something.
_PAUSE_SECONDS = 0.2


@dataclass(eq=False, slots=True)
class _Caller:
    """One connection: whose, as far as its certificate says, and for what."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    address: str
    member_id: str | None
    service: Service


class Gateway:
    def __init__(
        self,
        resources: Resources,
        authority: Authority,
        membership: Membership,
        upstreams: Mapping[Service, Upstream],
    ) -> None:
        self._database = resources.database
        self._authority = authority
        self._membership = membership
        self._upstreams = upstreams
        self._tls = _tls(authority)
        self._handshakes = asyncio.Semaphore(_MOST_HANDSHAKES)
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[_Caller] = set()

    @contextlib.asynccontextmanager
    async def open(self, host: str, port: int) -> AsyncIterator[None]:
        listeners = _listen(host, port)
        accepting = [asyncio.create_task(self._accept(listener)) for listener in listeners]
        try:
            yield
        finally:
            tasks = [*accepting, *self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for listener in listeners:
                listener.close()

    async def cut_the_expelled(self) -> None:
        """For ever: whoever is no longer let in loses what connections it has."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            ids = {caller.member_id for caller in self._open if caller.member_id}
            if not ids:
                continue
            try:
                async with self._database.autocommit() as tx:
                    gone = await members.expelled(tx, ids)
            except SQLAlchemyError as error:
                log.warning("nobody knows who is expelled, will ask again", error=str(error))
                continue
            for caller in self._open:
                if caller.member_id in gone:
                    log.info("cutting an expelled node", address=caller.address, service=caller.service)
                    caller.writer.transport.abort()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            await self._handshakes.acquire()
            try:
                connection, (host, *_) = await asyncio.get_running_loop().sock_accept(listener)
            except OSError as error:
                self._handshakes.release()
                log.warning("a connection could not be taken", error=str(error))
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            task = asyncio.create_task(self._take(connection, host))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _take(self, connection: socket.socket, address: str) -> None:
        try:
            caller = await self._greet(connection, address)
        finally:
            self._handshakes.release()
        if caller is None:
            return
        self._open.add(caller)
        try:
            await self._serve(caller)
        except (MillraceError, OSError) as error:
            log.info("a connection broke", address=address, service=caller.service, error=str(error))
        finally:
            self._open.discard(caller)
            hang_up(caller.writer)

    async def _greet(self, connection: socket.socket, address: str) -> _Caller | None:
        """Who it is, by TLS. None for those that are not let in."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(READ_BYTES, loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            notice_cuts(connection)
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=self._tls, ssl_handshake_timeout=_HANDSHAKE_SECONDS
            )
        except (OSError, TimeoutError) as error:
            connection.close()
            log.warning("a connection was refused", address=address, reason=_why(error))
            return None
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        member_id = _member_id(writer.get_extra_info("peercert"))
        name = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        if name is None:
            log.warning("a connection was refused", address=address, reason="It does not say what it is for.")
            hang_up(writer)
            return None
        return _Caller(reader, writer, address, member_id, Service(name))

    async def _serve(self, caller: _Caller) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if caller.service is Service.AUTHORITY:
                    return await write_line(caller.writer, {"certificate": self._authority.pem})
                member = await self._member(caller)
                if caller.service is Service.MEMBERSHIP:
                    return await self._change_membership(caller, member)
                upstream = await self._dial(caller.service)
                await write_line(caller.writer, {})
        except Refused as refusal:
            log.warning("a node was refused", address=caller.address, service=caller.service, reason=str(refusal))
            return await write_line(caller.writer, {"error": str(refusal), "is_final": refusal.is_final})
        return await exchange((caller.reader, caller.writer), upstream)

    async def _member(self, caller: _Caller) -> Row | None:
        """Raises `Refused` for whoever is not let in. None only for one that is about to join."""
        if caller.member_id is None:
            if caller.service is Service.MEMBERSHIP:
                return None
            raise Refused("Only nodes that have joined are let in here; join with a join token.", is_final=True)
        try:
            async with self._database.autocommit() as tx:
                return await members.admit(tx, caller.member_id)
        except MillraceError as error:
            raise Refused(error.detail, is_final=True) from None
        except SQLAlchemyError as error:
            log.warning("nobody knows who is let in", error=str(error))
            raise Refused("The database behind the gateway does not answer; try again.", is_final=False) from None

    async def _change_membership(self, caller: _Caller, member: Row | None) -> None:
        await write_line(caller.writer, {})
        asked = await read_line(caller.reader)
        try:
            answer = await self._membership.answer(member, asked, caller.address)
        except SQLAlchemyError as error:
            log.warning("a node cannot join", error=str(error))
            raise Refused("The database behind the gateway does not answer; try again.", is_final=False) from None
        await write_line(caller.writer, answer)

    async def _dial(self, service: Service) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if service not in self._upstreams:
            raise Refused("Files are not behind this gateway, but in a store of their own.", is_final=False)
        try:
            return await self._upstreams[service].dial()
        except OSError as error:
            log.warning("nobody answers behind the gateway", service=service, error=str(error))
            raise Refused(f"{service.name.title()} behind the gateway does not answer; try again.", False) from None


def _tls(authority: Authority) -> ssl.SSLContext:
    """Asks everybody for a certificate; one that is not ours ends the handshake, none leaves the first two services."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=authority.pem)
    # A resumed session would not show whose certificate it began with.
    context.num_tickets = 0
    context.set_alpn_protocols([service.value for service in Service])
    # The library reads keys from files only.
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(authority.sign_gateway())
        file.flush()
        context.load_cert_chain(file.name)
    return context


def _listen(host: str, port: int) -> list[socket.socket]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners = []
    for family, *_, address in dict.fromkeys(found):
        listener = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
        listener.setblocking(False)
        listeners.append(listener)
    return listeners


def _member_id(certificate: Mapping | None) -> str | None:
    fields = [field for part in (certificate or {}).get("subject", ()) for field in part]
    return dict(fields).get("serialNumber")


def _why(error: OSError) -> str:
    match getattr(error, "reason", None):
        case "WRONG_VERSION_NUMBER" | "HTTP_REQUEST" | "UNSUPPORTED_PROTOCOL" | "UNKNOWN_PROTOCOL":
            return "It does not speak TLS 1.3."
        case "CERTIFICATE_VERIFY_FAILED":
            return f"Its certificate is not one of this installation: {getattr(error, 'verify_message', '')}."
        case reason:
            return f"The TLS handshake failed: {reason or error!r}."
