"""Where this machine's own processes reach Postgres and Redis, and what a node is told to reach them through a socket.

The gateway passes bytes on and understands none: what clients say to a server that wants TLS would be said to nobody,
so it refuses to stand before such a one.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from psycopg.conninfo import conninfo_to_dict
from redis.asyncio.connection import parse_url

from core.joining.wire import notice_cuts

_POSTGRES_PORT, _REDIS_PORT = 5432, 6379
_TLS_MODES = ("require", "verify-ca", "verify-full")
_CONNECT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Upstream:
    """A Unix socket, or host and port; and what a node must know beside where it is."""

    path: str | None = None
    host: str = ""
    port: int = 0
    told: dict[str, Any] = field(default_factory=dict)

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises `OSError`."""
        async with asyncio.timeout(_CONNECT_SECONDS):
            if self.path is not None:
                return await asyncio.open_unix_connection(self.path)
            stream = await asyncio.open_connection(self.host, self.port)
        notice_cuts(stream[1].get_extra_info("socket"))
        return stream


def postgres(url: str) -> Upstream:
    """Raises `ValueError` with a sentence."""
    said = conninfo_to_dict(url)
    if said.get("sslmode") in _TLS_MODES:
        raise ValueError(
            "MILLRACE_DATABASE_URL asks for TLS, which the gateway cannot pass on. Nodes of other machines reach such "
            "a server themselves: give them MILLRACE_DATABASE_URL and MILLRACE_REDIS_URL instead of a join token."
        )
    host, port = str(said.get("host") or "localhost"), int(said.get("port") or _POSTGRES_PORT)
    told = {name: said[name] for name in ("user", "password", "dbname") if said.get(name)}
    if host.startswith("/"):
        return Upstream(path=f"{host}/.s.PGSQL.{port}", told=told)
    return Upstream(host=host, port=port, told=told)


def redis(url: str) -> Upstream:
    """Raises `ValueError` with a sentence."""
    if url.startswith("rediss:"):
        raise ValueError(
            "MILLRACE_REDIS_URL asks for TLS, which the gateway cannot pass on. Nodes of other machines reach such "
            "a server themselves: give them MILLRACE_DATABASE_URL and MILLRACE_REDIS_URL instead of a join token."
        )
    said = parse_url(url)
    told = {name: said[name] for name in ("username", "password", "db") if said.get(name)}
    if path := said.get("path"):
        return Upstream(path=path, told=told)
    return Upstream(host=said.get("host", "localhost"), port=int(said.get("port", _REDIS_PORT)), told=told)
