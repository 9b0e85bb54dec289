"""Whose money a request is about: the caller's, or, for an admin of the server, that of whom it names."""

from typing import Annotated

from fastapi import Depends, Query
from sqlalchemy import Row

from api.dependencies import Caller, StateDep
from core.database import Transaction
from core.errors import BadRequest, Forbidden, NotFound, ValidationFailed
from core.people import accounts

_Username = Annotated[
    str | None, Query(max_length=200, description="Another account than the caller's, for admins of the server.")
]


async def _one(state: StateDep, caller: Caller, account: _Username = None) -> Row:
    """Raises `Forbidden`, `BadRequest`."""
    if account in (None, caller.username):
        return caller
    admin(caller)
    async with state.database.autocommit() as tx:
        try:
            row = await accounts.by_username(tx, account)
        except NotFound:
            raise BadRequest(f"There is no account {account}.") from None
    await state.views.note(caller.id, row)
    return row


async def _one_or_all(state: StateDep, caller: Caller, account: _Username = None) -> Row | None:
    return None if account is None and caller.is_admin else await _one(state, caller, account)


#: An account: the caller's by default.
Whose = Annotated[Row, Depends(_one)]
#: The same, but None, which is everybody, by default for an admin of the server.
WhoseOrAll = Annotated[Row | None, Depends(_one_or_all)]


def admin(caller: Row) -> None:
    """Raises `Forbidden`."""
    if not caller.is_admin:
        raise Forbidden(f"{caller.username} is no admin of this server.")


async def named(tx: Transaction, username: str) -> Row:
    """The account that a body names. Raises `ValidationFailed`."""
    try:
        return await accounts.by_username(tx, username)
    except NotFound:
        raise ValidationFailed("account", f"There is no account {username}.") from None
