"""What usage comes to, for the pages: asked for anew, or remembered for some seconds where it is that of all Accounts.

One Account's sums are found by an index, and its owner looks for what has just ended.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from api.state import State
from core.database import Transaction
from core.reports.filters import Filter

Found = TypeVar("Found")


async def sums(
    state: State, tx: Transaction, ask: Callable[..., Awaitable[Found]], filter: Filter, *more: Any
) -> Found:
    """What `ask(tx, filter, *more)` finds."""
    if filter.account is not None:
        return await ask(tx, filter, *more)
    key = (ask.__qualname__, filter, *more)
    found = state.sums.get(key)
    if found is None:
        found = state.sums[key] = await ask(tx, filter, *more)
    return found
