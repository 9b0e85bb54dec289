"""How HTTP is read off a connection: what is malformed, ambiguous or endless is refused once, and that connection ends.

The parser itself is strict; this is about what it tells too late, or the server would answer in a shape of its own.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.errors import problem

#: The parser collects a head, a trailer or the size of a chunk for as long as they come.
_LONGEST_HEAD_BYTES = 64 * 1024
#: The parser also takes what was there before: a line without a version.
_VERSIONS = ("1.0", "1.1")
#: Closing while something is still to be read resets the connection, and the refusal may be lost with it: so for this
#: long, or for so much more, what still comes is read and thrown away.
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 1024 * 1024
_REFUSAL = f"This is not valid HTTP/1.1, or its headers take more than {_LONGEST_HEAD_BYTES} bytes."


class HttpProtocol(HttpToolsProtocol):
    """One connection. `_pending_bytes` have come since the parser last made something of them."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._is_in_head = True
        self._pending_bytes = 0
        self._is_refused = False

    def data_received(self, data: bytes) -> None:
        self._pending_bytes += len(data)
        if self._is_refused:
            if self._pending_bytes > _LINGER_BYTES:
                self.transport.close()
            return
        super().data_received(data)
        if self._pending_bytes > _LONGEST_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(_REFUSAL)

    # --- what the parser calls ---

    def on_message_begin(self) -> None:
        self._is_in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers come by the same way. Taken as headers they would be what a proxy in front has not seen.
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.get_http_version() not in _VERSIONS:
            raise ValueError(_REFUSAL)  # Which the parser passes on as its own error.
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > _LONGEST_HEAD_BYTES:
            raise ValueError(_REFUSAL)
        super().on_headers_complete()
        self._is_in_head = False
        self._pending_bytes = 0

    def on_body(self, body: bytes) -> None:
        self._pending_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._pending_bytes = 0
        super().on_message_complete()

    # --- refusing ---

    def send_400_response(self, msg: str) -> None:
        """Also where what is broken is the rest of a request that has been answered, or follows one that will be."""
        if self._is_in_head and self.cycle is not None and not self.cycle.response_complete:
            self.shutdown()  # As soon as the request before has its answer.
        elif not self._is_in_head and (self.cycle.response_started or self.pipeline):
            self.transport.close()
        else:
            self._refuse()

    def _refuse(self) -> None:
        if not self._is_in_head:
            self.cycle.disconnected = True  # So that its route does not answer as well.
        answer = problem(400, "Bad request", _REFUSAL)
        headers = [*self.server_state.default_headers, *answer.raw_headers, (b"connection", b"close")]
        head = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[400] + head + b"\r\n" + answer.body)
        self._is_refused, self._pending_bytes = True, 0
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)
