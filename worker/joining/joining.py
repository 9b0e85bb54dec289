"""What a node asks of the gateway for itself: to be let in by a join token, and later the next certificate.

The first question goes to whoever answers, and its answer is believed only if it has the fingerprint that the token
names; the secret is told to nobody before.
"""

import asyncio
from dataclasses import replace
from typing import Any

from core.errors import Unavailable
from core.joining.certificates import fingerprint, new_request
from core.joining.tokens import JoinSecret
from core.joining.wire import ANSWER_SECONDS, Refused, Service, hang_up, read_line, write_line
from worker.joining.credentials import Credentials
from worker.joining.uplink import NOBODY, Trust, connect


async def join(token: JoinSecret, name: str) -> Credentials:
    """Raises `Refused` and `Unavailable`."""
    authority = await _authority(token)
    key, request = new_request()
    asked = {"secret": token.secret, "name": name, "request": request}
    said = await _ask(token.address, asked, Trust(authority))
    return _with_answer(Credentials(name, token.address, authority, key, "", {}), said)


async def refresh(credentials: Credentials) -> Credentials:
    """What the gateway gives now, and the next certificate where it is time. Raises `Refused` and `Unavailable`."""
    key, request = new_request() if credentials.is_due else (credentials.key, None)
    said = await _ask(credentials.address, {"request": request}, trust_of(credentials))
    return _with_answer(replace(credentials, key=key), said)


def trust_of(credentials: Credentials) -> Trust:
    return Trust(credentials.authority, credentials.key, credentials.certificate)


async def _authority(token: JoinSecret) -> str:
    reader, writer = await connect(token.address, Service.AUTHORITY, NOBODY)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            certificate = str((await read_line(reader)).get("certificate"))
        seen = fingerprint(certificate)
    except (OSError, ValueError):
        raise Unavailable(f"What answers at {token.address} is no gateway.") from None
    finally:
        hang_up(writer)
    if seen != token.fingerprint:
        raise Refused(
            f"The gateway at {token.address} is not the one for which this token was made: its authority has the "
            f"fingerprint {seen[:16]}…, and the token says {token.fingerprint[:16]}…. Nothing was told to it. Make a "
            "new token if the control plane was set up anew; if not, somebody is in between.",
            is_final=True,
        )
    return certificate


async def _ask(address: str, asked: dict[str, Any], trust: Trust) -> dict[str, Any]:
    reader, writer = await connect(address, Service.MEMBERSHIP, trust)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await write_line(writer, asked)
            return await read_line(reader)
    except OSError as error:
        raise Unavailable(f"The gateway at {address} hung up: {error!r}.") from None
    finally:
        hang_up(writer)


def _with_answer(credentials: Credentials, said: dict[str, Any]) -> Credentials:
    certificate = said.pop("certificate", None) or credentials.certificate
    return replace(credentials, certificate=certificate, given=said)
