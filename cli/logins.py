"""`millrace login create|list|password|disable`: an operator's way to the people who may open the pages.

A password is typed twice where there is a terminal, else it is the first line of standard input: as an argument
everybody on this machine could read it.
"""

import sys
from getpass import getpass

from rich.table import Table
from sqlalchemy import Row

from cli import showing
from cli.errors import Refusal
from cli.operating import Work, account_named, answering, run
from core.database import Transaction
from core.errors import NotFound
from core.people import logins


async def create(tx: Transaction, username: str, email: str, password: str) -> str:
    account = await account_named(tx, username)
    row = await logins.create(tx, account.id, email, password)
    return f"{row.email} may log in to the pages of {username}."


async def list_all(tx: Transaction) -> Table:
    table = showing.table(showing.whole("email"), "account", "last seen", "may log in")
    for row in await logins.list_all(tx):
        last_seen = f"{row.last_seen_at:%Y-%m-%d %H:%M} UTC" if row.last_seen_at else "never"
        table.add_row(row.email, row.username, last_seen, "no" if row.disabled_at else "yes")
    return table


async def set_password(tx: Transaction, email: str, password: str) -> str:
    row = await _login(tx, email)
    await logins.change_password(tx, row.id, password)
    return f"{row.email} has a new password, and is logged out everywhere."


async def disable(tx: Transaction, email: str) -> str:
    row = await _login(tx, email)
    await logins.disable(tx, row.id)
    return f"{row.email} may not log in any more, and is logged out everywhere."


_VERBS = {"create": create, "list": list_all, "password": set_password, "disable": disable}
#: Before a transaction is open: whoever types it takes their time.
_ASKING = ("create", "password")


async def _login(tx: Transaction, email: str) -> Row:
    try:
        return await logins.by_email(tx, email)
    except NotFound:
        raise Refusal(f"There is no login {email}; `millrace login list` shows them.") from None


def _password() -> str:
    """Raises `Refusal`."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass("Password: ")
    if getpass("Again: ") != password:
        raise Refusal("The two are not the same; nothing was changed.")
    return password


def _asked(verb: str, *words: str) -> Work:
    """Raises `Refusal`."""
    return answering(_VERBS[verb], *words, *([_password()] if verb in _ASKING else []))


def main() -> int:
    return run(_asked, *sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
