"""Connections to the gateway: TLS 1.3, both sides with a certificate of the same authority. Knows no Postgres."""

import asyncio
import random
import ssl
import tempfile
from dataclasses import dataclass
from functools import lru_cache

from core.clock import monotonic
from core.errors import Unavailable
from core.joining.certificates import GATEWAY_NAME
from core.joining.tokens import split_address
from core.joining.wire import ANSWER_SECONDS, READ_BYTES, Refused, Service, hang_up, notice_cuts, read_line
from core.log import get_logger

log = get_logger()

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_CONNECT_SECONDS = 5.0
# A node has 20 s before it counts as lost: it must not sleep through the moment when the gateway is back.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 2.0


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom a node trusts: the authority, in PEM, and nobody else, whatever the system trusts. And its own certificate
    with the key to it, if it has any."""

    authority: str
    key: str = ""
    certificate: str = ""


#: For the one question whose answer is checked by other means: which certificate the authority has.
NOBODY = Trust("")


@lru_cache(maxsize=2 * len(Service))
def _tls(trust: Trust, service: Service) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([service.value])
    if trust == NOBODY:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=trust.authority)
    if trust.certificate:
        # The library reads keys from files only.
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(trust.key + trust.certificate)
            file.flush()
            context.load_cert_chain(file.name)
    return context


async def connect(address: str, service: Service, trust: Trust) -> Stream:
    """Raises `Refused` in the gateway's words and `Unavailable` in ours."""
    host, port = split_address(address)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=_tls(trust, service), server_hostname=GATEWAY_NAME, limit=READ_BYTES
            )
    except ssl.SSLCertVerificationError as error:
        raise Unavailable(
            f"Whoever answers at {address} is not the gateway that this node knows ({error.verify_message}); "
            "nothing was told to it."
        ) from None
    except ssl.SSLError as error:
        raise Unavailable(f"What answers at {address} is no gateway: {error.reason or error}.") from None
    except TimeoutError:
        raise Unavailable(f"The gateway at {address} does not answer; is its port open?") from None
    except OSError as error:
        raise Unavailable(f"The gateway at {address} cannot be reached: {error.strerror or error}.") from None
    notice_cuts(writer.get_extra_info("socket"))
    try:
        if service is not Service.AUTHORITY:
            async with asyncio.timeout(ANSWER_SECONDS):
                await read_line(reader)
    except ssl.SSLError as error:
        # TLS 1.3 learns only now what the gateway thinks of a certificate.
        hang_up(writer)
        raise Refused(
            f"The gateway at {address} does not take this node's certificate ({error.reason}): it has expired, or is "
            "one of another installation. Join again with a new token.",
            is_final=True,
        ) from None
    except Refused:
        hang_up(writer)
        raise
    except (OSError, Unavailable):
        hang_up(writer)
        # What it thinks of a certificate reaches us as an error, or, where it was in a hurry, as nothing at all.
        raise Unavailable(
            f"The gateway at {address} hung up without a word: it is stopping, or this node's certificate has expired "
            "or is one of another installation, and then it has to join again with a new token."
        ) from None
    return reader, writer


class Uplink:
    """Connections one after the other; while the gateway is away, one tries at a time and the others fail at once."""

    def __init__(self, address: str, trust: Trust) -> None:
        self._address = address
        self._trust = trust
        self._failures = 0
        self._next_try = 0.0
        self._why = ""

    def show(self, trust: Trust) -> None:
        """From now on: a renewed certificate."""
        self._trust = trust

    async def connect(self, service: Service) -> Stream:
        """As above."""
        if self._failures and monotonic() < self._next_try:
            raise Unavailable(self._why)
        # Whoever comes while this one tries need not try, too.
        self._next_try = monotonic() + _CONNECT_SECONDS
        try:
            stream = await connect(self._address, service, self._trust)
        except Unavailable as error:
            self._fail(str(error))
            raise
        if self._failures:
            log.info("the gateway answers again", address=self._address, failures=self._failures)
        self._failures = 0
        return stream

    def _fail(self, why: str) -> None:
        pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(self._failures, 10))
        self._next_try = monotonic() + pause * random.uniform(0.5, 1)
        if not self._failures or why != self._why:
            log.warning("the gateway is away, will try again and again", reason=why)
        self._failures += 1
        self._why = why
