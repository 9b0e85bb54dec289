"""The settings of a process whose servers are behind a gateway, and the tunnel that makes them true.

A node with a join token joins; from then on it keeps what it was given and needs the token no more. All others pass
through here untouched.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from core.errors import Unavailable
from core.joining.tokens import JoinSecret
from core.joining.wire import Refused, Service
from core.log import get_logger
from core.remote_files import SCHEME as REMOTE_FILES
from core.settings import Settings
from worker.joining import joining
from worker.joining.credentials import Credentials
from worker.joining.tunnel import SOCKETS, socket_folder, tunnel
from worker.joining.uplink import Uplink

log = get_logger()

# Often enough for a certificate that is renewed a month before its end, and for settings that changed.
_REFRESH_SECONDS = 3600.0
_RETRY_SECONDS = 2.0


class NotAMember(Exception):
    """This machine cannot work for that installation; the message says why and what to do. `is_final`: trying again
    changes nothing."""

    def __init__(self, sentence: str, is_final: bool = True) -> None:
        super().__init__(sentence)
        self.is_final = is_final


def is_member(settings: Settings) -> bool:
    """Whether its servers are behind a gateway."""
    return not settings.database_url and Credentials.load(settings) is not None


@asynccontextmanager
async def membership(settings: Settings) -> AsyncIterator[Settings]:
    """The settings to go on with. Raises `NotAMember`; also while inside, when the node is expelled."""
    if settings.database_url or not (settings.join or Credentials.load(settings)):
        yield settings
        return
    credentials = await _become_member(settings)
    uplink = Uplink(credentials.address, joining.trust_of(credentials))
    expulsion = _Expulsion()
    async with socket_folder(settings.data) as folder, tunnel(uplink, folder, expulsion.end):
        refreshing = asyncio.create_task(_keep_fresh(settings, credentials, uplink, expulsion))
        try:
            yield _behind(settings, credentials, folder)
        except BaseException:
            expulsion.explain()
            raise
        finally:
            refreshing.cancel()
            await asyncio.wait({refreshing})
    expulsion.explain()


class _Expulsion:
    """Ends the work of a node that will never be let in again: by a cancel, as its containers must go, too."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._why: Refused | None = None

    def end(self, refusal: Refused) -> None:
        if self._why is None and self._task is not None:
            self._why = refusal
            self._task.cancel()

    def explain(self) -> None:
        """Raises `NotAMember` if that was it."""
        if self._why is not None:
            raise NotAMember(str(self._why)) from None


async def _become_member(settings: Settings) -> Credentials:
    """By what is kept, or by the token. Raises `NotAMember`."""
    try:
        token = JoinSecret.parse(settings.join) if settings.join else None
        kept = _moved(Credentials.load(settings), settings, token)
        if kept is not None:
            try:
                return await _welcomed(settings, kept)
            except Refused as refusal:
                if token is None:
                    raise
                log.warning("what was kept is not taken any more; joining anew", reason=str(refusal))
        assert token is not None
        credentials = await joining.join(token, settings.node)
    except (Refused, Unavailable, ValueError) as error:
        raise NotAMember(str(error), is_final=not isinstance(error, Unavailable)) from None
    credentials.save(settings)
    log.info("joined", node=credentials.node, gateway=credentials.address, until=credentials.expires)
    return credentials


def _moved(kept: Credentials | None, settings: Settings, token: JoinSecret | None) -> Credentials | None:
    """What is kept, for where the gateway is now; None where it is of another installation than the token."""
    if kept is None or (token is not None and token.fingerprint != kept.fingerprint):
        return None
    if settings.node_name and settings.node_name != kept.node:
        raise NotAMember(
            f"This machine has joined as {kept.node}, and MILLRACE_NODE_NAME says {settings.node_name}. Set it back, "
            f"or remove member.json in {settings.data} and join with a new token."
        )
    return replace(kept, address=settings.gateway_address or (token.address if token else kept.address))


async def _welcomed(settings: Settings, kept: Credentials) -> Credentials:
    """Once the gateway answers, however long that takes: without it there is nothing to do. Raises `Refused`."""
    said = ""
    while True:
        try:
            return await _refreshed(settings, kept)
        except Unavailable as error:
            if str(error) != said:
                said = str(error)
                log.warning("waiting for the gateway", reason=said)
            await asyncio.sleep(_RETRY_SECONDS)


async def _refreshed(settings: Settings, kept: Credentials) -> Credentials:
    """As the gateway says now. Raises `Refused` and `Unavailable`."""
    fresh = await joining.refresh(kept)
    if fresh != kept:
        fresh.save(settings)
    return fresh


async def _keep_fresh(settings: Settings, credentials: Credentials, uplink: Uplink, expulsion: _Expulsion) -> None:
    """The next certificate in good time. Settings that changed are kept for the next start."""
    while True:
        await asyncio.sleep(_REFRESH_SECONDS)
        try:
            fresh = await _refreshed(settings, credentials)
        except Refused as refusal:
            if refusal.is_final:
                return expulsion.end(refusal)
            continue
        except Unavailable:
            continue  # The uplink has said so; a certificate has a month left when it is due.
        if fresh.certificate != credentials.certificate:
            uplink.show(joining.trust_of(fresh))
            log.info("certificate renewed", until=fresh.expires)
        credentials = fresh


def _behind(settings: Settings, credentials: Credentials, folder: Path) -> Settings:
    """The node's own, with what is the same everywhere, and servers by their local sockets."""
    given = credentials.given
    return settings.model_copy(
        update={
            **given["settings"],
            "node_name": credentials.node,
            "database_url": _database_url(given["postgres"], folder, credentials.node),
            "redis_url": _redis_url(given["redis"], folder / SOCKETS[Service.REDIS]),
            "files_url": given["files_url"] or f"{REMOTE_FILES}{folder / SOCKETS[Service.FILES]}",
        }
    )


def _database_url(told: dict[str, str], folder: Path, node: str) -> str:
    """With the node's name, so that `pg_stat_activity` tells whose session it is."""
    user = ":".join(quote(told[part], safe="") for part in ("user", "password") if part in told)
    query = {"host": str(folder), "application_name": f"node {node}"}
    return f"postgresql://{user}@/{quote(told.get('dbname', ''), safe='')}?{urlencode(query)}"


def _redis_url(told: dict[str, Any], socket: Path) -> str:
    user = ":".join(quote(str(told.get(part, "")), safe="") for part in ("username", "password"))
    return f"unix://{user + '@' if 'password' in told else ''}{socket}?db={told.get('db', 0)}"
