"""`millrace token create|list|revoke`: an operator's way to tokens, past the api, which would ask for one."""

import sys
from collections.abc import Sequence
from datetime import datetime

from rich.table import Table
from rich.text import Text
from sqlalchemy import Row

from cli import showing
from cli.errors import Refusal
from cli.moments import duration, shown
from cli.operating import account_named, answering, operate
from core.clock import now
from core.database import Transaction
from core.errors import NotFound
from core.ids import new_id
from core.people import tokens
from core.people.tokens import EVERY_SCOPE, Scope


async def create(tx: Transaction, username: str, name: str, lifetime: str, *scopes: str) -> str:
    wanted, expires_at = _scopes(scopes), _expiry(lifetime)
    account_id = (await account_named(tx, username)).id
    _, token = await tokens.create(tx, new_id(), account_id, name, wanted, expires_at)
    return token


async def list_all(tx: Transaction, username: str) -> Table:
    whole = map(showing.whole, ("id", "token"))
    table = showing.table(*whole, "name", "scopes", "last used", "valid")
    for row in await tokens.list_page(tx, (await account_named(tx, username)).id):
        last_used = shown(row.last_used_at) if row.last_used_at else "never"
        table.add_row(row.id, f"{row.prefix}…", Text(row.name), " ".join(row.scopes), last_used, _validity(row))
    return table


async def revoke(tx: Transaction, username: str, token_id: str) -> str:
    try:
        row = await tokens.revoke(tx, (await account_named(tx, username)).id, token_id)
    except NotFound:
        raise Refusal(f"{username} has no token {token_id}; `millrace token list` shows their ids.") from None
    return f"The token {row.prefix}… is revoked."


_VERBS = {"create": create, "list": list_all, "revoke": revoke}


def _scopes(names: Sequence[str]) -> Sequence[Scope]:
    """All of them where none is named. Raises `Refusal`."""
    unknown = [name for name in names if name not in EVERY_SCOPE]
    if unknown:
        raise Refusal(f"There is no scope {', '.join(unknown)}; there are {', '.join(EVERY_SCOPE)}.")
    return [Scope(name) for name in names] or EVERY_SCOPE


def _expiry(lifetime: str) -> datetime | None:
    """Raises `Refusal`."""
    return now() + duration(lifetime) if lifetime else None


def _validity(row: Row) -> str:
    if row.revoked_at is not None:
        return f"revoked {shown(row.revoked_at)}"
    if row.expires_at is None:
        return "until revoked"
    return f"{'until' if row.expires_at > now() else 'expired'} {shown(row.expires_at)}"


def main() -> int:
    verb, *arguments = sys.argv[1:]
    return operate(answering(_VERBS[verb], *arguments))


if __name__ == "__main__":
    sys.exit(main())
