"""What is no HTTP, or could be read in two ways, has one answer, a refusal, after which the connection is closed."""

import asyncio

import pytest

from tests.api.scene import Caller
from tests.support.api_process import CLOSE_SECONDS, ApiProcess

POST = b"POST /v1/predictions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
#: What whoever smuggles would like to have answered as well.
SMUGGLED = b"GET /v1/hardware HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = b"a" * 100_000

MALFORMED = {
    "a length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "one length twice": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\n{}",
    "a length with a sign": POST + b"Content-Length: +2\r\n\r\n{}",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n{}",
    "a hexadecimal length": POST + b"Content-Length: 0x2\r\n\r\n{}",
    "an empty length": POST + b"Content-Length: \r\n\r\n{}",
    "a length beyond 64 bit": POST + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
    "a space before a colon": POST + b"Content-Length : 2\r\n\r\n{}",
    "chunks that are not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunks twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "almost chunks": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks behind a control character": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a folded header": POST + b"X-A: b\r\n Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}",
    "lines that end in LF": POST.replace(b"\r\n", b"\n") + b"Content-Length: 2\n\n{}",
    "a header that ends in LF": POST + b"X-A: b\nContent-Length: 2\r\n\r\n{}",
    "a header that ends in CR": POST + b"X-A: b\rContent-Length: 2\r\n\r\n{}",
    "NUL in a header": POST + b"X-A: b\x00c\r\nContent-Length: 2\r\n\r\n{}",
    "a header without a colon": POST + b"XA\r\n\r\n",
    "a header without a name": POST + b": a\r\n\r\n",
    "a name with a space": POST + b"X A: a\r\n\r\n",
    "a huge header": POST + b"X-A: " + LONG + b"\r\n\r\n",
    "many headers": POST + b"X-A: a-header-of-many\r\n" * 5_000 + b"\r\n",
    "a huge request line": b"GET /" + LONG + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a huge method": LONG,
    "a chunk of no size": CHUNKED + b"zz\r\n\r\n",
    "a chunk beyond 64 bit": CHUNKED + b"fffffffffffffffff1\r\n\r\n",
    "a negative chunk": CHUNKED + b"-1\r\n\r\n",
    "a chunk with a prefix": CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n",
    "a size that ends in LF": CHUNKED + b"2\n{}\r\n0\r\n\r\n",
    "a size that ends in a space": CHUNKED + b"2 \r\n{}\r\n0\r\n\r\n",
    "a chunk that does not end": CHUNKED + b"2\r\n{}0\r\n\r\n",
    "a chunk with a huge remark": CHUNKED + b"1;" + LONG,
    "HTTP/0.9": b"GET /v1/account\r\n\r\n",
    "HTTP/0.9 by name": b"GET /v1/account HTTP/0.9\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/3": b"GET /v1/account HTTP/3.0\r\nHost: x\r\n\r\n",
    "a method in lower case": b"get /v1/account HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unknown method": b"FOO /v1/account HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path beyond ASCII": b"GET /v1/\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tunnel": b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("request_", MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_is_no_http_is_refused_once(api_process: ApiProcess, caller: Caller, request_: bytes) -> None:
    # Without a token it would be answered before its body is looked at.
    token = b"Host: x\r\nAuthorization: Bearer %b\r\n" % caller.token.encode()
    [answer] = await api_process.tell(request_.replace(b"Host: x\r\n", token) + SMUGGLED)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    assert answer.json()["title"] == "Bad request"
    assert answer.json()["detail"].startswith("This is not valid HTTP/1.1")


ENDLESS = {
    "request line": b"GET /",
    "header": POST + b"X-A: ",
    "trailer": CHUNKED + b"0\r\nX-A: ",
    "remark on a chunk": CHUNKED + b"1;",
}


@pytest.mark.parametrize("start", ENDLESS.values(), ids=ENDLESS.keys())
async def test_what_never_ends_is_cut_off(api_process: ApiProcess, start: bytes) -> None:
    """And not kept in memory for as long as it comes. Who goes on sending may not see the answer."""
    before = api_process.resident_bytes
    with pytest.raises(ConnectionError):
        await api_process.tell(start, *[LONG] * 500)
    assert api_process.resident_bytes < before + 8 * 1024 * 1024


async def test_a_token_in_a_trailer_is_none(api_process: ApiProcess, caller: Caller) -> None:
    """A proxy in front would have looked at the headers only."""
    trailer = f"0\r\nAuthorization: Bearer {caller.token}\r\n\r\n".encode()
    [answer] = await api_process.tell(POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + trailer)
    assert answer.status_code == 401


async def test_a_request_before_a_malformed_one_keeps_its_answer(api_process: ApiProcess, caller: Caller) -> None:
    head = f"GET /v1/account HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {caller.token}\r\n\r\n".encode()
    [answer] = await api_process.tell(head + b"garbage\r\n\r\n" + SMUGGLED)
    assert (answer.status_code, answer.json()["username"]) == (200, caller.username)


async def test_a_request_that_is_answered_already_is_not_refused_as_well(api_process: ApiProcess) -> None:
    """Its token was missing, and only then its body turns out to be broken."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api_process.settings.port)
    async with asyncio.timeout(CLOSE_SECONDS):
        writer.write(CHUNKED.replace(b"/v1/predictions", b"/v1/files"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401 ")
        writer.write(b"zz\r\n\r\n" + SMUGGLED)
        assert b"HTTP/1.1" not in await reader.read(-1)
    writer.close()


async def test_what_follows_a_body_that_nobody_reads_is_not_a_request(api_process: ApiProcess, caller: Caller) -> None:
    body = b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED)
    head = f"GET /v1/account HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {caller.token}\r\n".encode()
    [answer] = await api_process.tell(head + body + SMUGGLED)
    assert answer.status_code == 200
