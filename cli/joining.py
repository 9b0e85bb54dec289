"""`millrace join-token create|list|revoke`, `joined` and `expel`: who may join as a node, has joined, may no longer."""

import socket
import sys
from urllib.parse import urlsplit

from rich.table import Table
from rich.text import Text
from sqlalchemy import Row

from cli import showing
from cli.errors import Refusal
from cli.moments import duration, shown
from cli.operating import answering, operate
from core.database import Transaction
from core.errors import NotFound
from core.joining import members, tokens
from core.joining.certificates import load_authority
from core.settings import Settings, get_settings

_HERE = ("localhost", "127.0.0.1", "::1", "")


async def create(tx: Transaction, name: str, lifetime: str, uses: str, address: str) -> str:
    settings = get_settings()
    reached_at = address or settings.gateway_address or _own_address(settings)
    try:
        tokens.split_address(reached_at)
    except ValueError as error:
        raise Refusal(str(error)) from None
    fingerprint = load_authority(settings.data).fingerprint
    seconds = duration(lifetime).total_seconds()
    return str(await tokens.create(tx, name, seconds, int(uses), fingerprint, reached_at))


async def list_all(tx: Transaction) -> Table:
    table = showing.table(showing.whole("id"), "name", "used", "valid")
    for row in await tokens.list_all(tx):
        table.add_row(row.id, Text(row.name), f"{row.uses} of {row.max_uses}", _validity(row))
    return table


async def revoke(tx: Transaction, id: str) -> str:
    try:
        row = await tokens.revoke(tx, id)
    except NotFound:
        raise Refusal(f"There is no join token {id}; `millrace join-token list` shows their ids.") from None
    joined = f" {row.uses} joined with it, and stay: `millrace expel` is for them." if row.uses else ""
    return f"Nobody joins with the token {row.name or id} any more.{joined}"


async def joined(tx: Transaction) -> Table:
    table = showing.table("node", "joined", "from", "with", "certificate until")
    for row in await members.list_all(tx):
        facts = (shown(row.joined_at), row.address, Text(row.token), shown(row.certificate_expires_at))
        table.add_row(row.name, *facts)
    return table


async def expel(tx: Transaction, name: str) -> str:
    try:
        await members.expel(tx, name)
    except NotFound:
        raise Refusal(f"No node named {name} has joined; `millrace joined` shows who has.") from None
    return f"{name} is let in no more, and within 2 seconds its connections are cut."


_VERBS = {"create": create, "list": list_all, "revoke": revoke, "joined": joined, "expel": expel}


def _own_address(settings: Settings) -> str:
    """By which others reach this machine, as far as it knows. Raises `Refusal`."""
    if not settings.gateway_port:
        raise Refusal(
            "No gateway runs here, so nobody can join: set MILLRACE_GATEWAY_PORT, for example to 8443, and start "
            "Millrace again."
        )
    host = urlsplit(settings.public_url).hostname or ""
    if host in _HERE:
        host = socket.getfqdn()
    if host in _HERE:
        raise Refusal("Say by which address other machines reach this one: --address host:port.")
    return f"[{host}]:{settings.gateway_port}" if ":" in host else f"{host}:{settings.gateway_port}"


def _validity(row: Row) -> str:
    if row.revoked_at is not None:
        return f"revoked {shown(row.revoked_at)}"
    if row.uses >= row.max_uses:
        return "used up"
    return f"{'expired' if row.is_expired else 'until'} {shown(row.expires_at)}"


def main() -> int:
    verb, *arguments = sys.argv[1:]
    return operate(answering(_VERBS[verb], *arguments))


if __name__ == "__main__":
    sys.exit(main())
