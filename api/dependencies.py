"""What routes ask for by type: the state of the process, a transaction, the calling account."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Row

from api.auth import authenticate, permit
from api.state import State
from core.database import Transaction
from core.people.tokens import Scope


async def _state(request: Request) -> State:
    # Async like every dependency here: FastAPI sends a plain function to a thread, which costs more than a query.
    return _state_of(request)


def _state_of(request: Request) -> State:
    return request.app.state.millrace


async def _transaction(request: Request) -> AsyncIterator[Transaction]:
    async with _state_of(request).database.transaction() as tx:
        yield tx


async def _reading(request: Request) -> AsyncIterator[Transaction]:
    async with _state_of(request).database.autocommit() as tx:
        yield tx


async def _caller(request: Request) -> Row:
    # The gate has put it there, before the body was read.
    return request.state.caller


async def _visitor(request: Request) -> Row | None:
    header = request.headers.get("authorization")
    if not header:
        return None
    visitor = await authenticate(_state_of(request), header)
    permit(visitor, Scope.READ)
    return visitor


async def _new_id(request: Request) -> str:
    return request.state.new_id


StateDep = Annotated[State, Depends(_state)]
#: The account, with `token_id` and `scopes` of the token that speaks for it.
Caller = Annotated[Row, Depends(_caller)]
#: On a route that anyone may call: the account, if there is a token.
Visitor = Annotated[Row | None, Depends(_visitor)]
#: The id that what this request creates must have, so that the same request again finds it.
NewId = Annotated[str, Depends(_new_id)]
# Function scope: the commit comes before the response, so a commit that fails is a 500 and not a lie.
Tx = Annotated[Transaction, Depends(_transaction, scope="function")]
Reading = Annotated[Transaction, Depends(_reading, scope="function")]
