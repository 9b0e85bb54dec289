"""What routes ask for by type: the state of the process, a transaction, the calling account."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Row

from api.auth import authenticate
from api.state import State
from core.database import Transaction


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
    return await authenticate(_state_of(request), request.headers.get("authorization"))


StateDep = Annotated[State, Depends(_state)]
Caller = Annotated[Row, Depends(_caller)]
# Function scope: the commit comes before the response, so a commit that fails is a 500 and not a lie.
Tx = Annotated[Transaction, Depends(_transaction, scope="function")]
Reading = Annotated[Transaction, Depends(_reading, scope="function")]
