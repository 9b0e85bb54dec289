"""Keeps enough money held for a run: asks for more before what is held is used up, and says when there is no more.

The last piece is asked for when the run has ended, so that what it cost is covered, as far as there is money. If the
database is away meanwhile the run goes on: what it costs beyond its hold is then not asked for.
"""

import asyncio
from collections.abc import Callable

from sqlalchemy import Row
from sqlalchemy.exc import SQLAlchemyError

from core.clock import monotonic
from core.database import Database
from core.errors import PaymentRequired
from core.log import get_logger
from core.money import alerts, folding, holds, wallets
from core.money.pricing import amount_nanos

log = get_logger()

#: More is asked for while what is held still covers so much; and then for as long a stretch again as has run, within:
_AHEAD_SECONDS = 5.0
_LEAST_SECONDS, _MOST_SECONDS = 30.0, 600.0
#: After the database failed to answer.
_RETRY_SECONDS = 2.0


class Allowance:
    """Of one running prediction whose Account may not spend without limit."""

    def __init__(self, database: Database, row: Row, run_out: Callable[[], None]) -> None:
        self._database = database
        self._row = row
        self._run_out = run_out
        self._held: int = row.held_nanos
        self._per_second: int = row.price_nanos_per_second or 0

    async def keep(self, began: float | None = None) -> None:
        """Until cancelled, or until there is no more money: then `run_out` is called. It `began` now, or then."""
        began = monotonic() if began is None else began
        while self._per_second:
            ran = monotonic() - began
            covered = self._held / self._per_second
            if covered - ran > _AHEAD_SECONDS:
                await asyncio.sleep(covered - ran - _AHEAD_SECONDS)
                continue
            stretch = min(max(ran, _LEAST_SECONDS), _MOST_SECONDS)
            if not await self._extend(int(stretch * self._per_second)):
                await self._tell()
                left = self._held / self._per_second - (monotonic() - began)
                await asyncio.sleep(max(0.0, left))
                self._run_out()
                return

    async def _tell(self) -> None:
        """Its owner, on the pages and by webhook."""
        row = self._row
        message = f"The prediction {row.id} of {row.model} is canceled: the account has nothing left to spend."
        try:
            async with self._database.transaction() as tx:
                details = {"prediction_id": row.id}
                await alerts.tell(tx, row.account_id, "insufficient_funds", message, details, id=f"funds:{row.id}")
        except SQLAlchemyError as error:
            log.warning("alert not written", prediction=row.id, error=str(error))

    async def cover(self, amount: int) -> None:
        """Holds what a run has cost, where it is more than was held so far; as much of it as there is."""
        if amount > self._held:
            await self._extend(amount - self._held)

    async def _extend(self, nanos: int) -> bool:
        """False: the wallet has not got it."""
        try:
            return await self._ask(nanos)
        except SQLAlchemyError as error:
            log.warning("hold not extended, will try again", prediction=self._row.id, error=str(error))
            await asyncio.sleep(_RETRY_SECONDS)
            return True

    async def _ask(self, nanos: int) -> bool:
        async with self._database.transaction() as tx:
            # What is over by now may be what this run needs.
            await folding.fold(tx, self._row.account_id)
            wallet = await wallets.get(tx, self._row.account_id)
        try:
            async with self._database.transaction() as tx:
                at_any_rate = wallet.when_empty == wallets.FINISH
                if not await holds.extend(tx, self._row.id, self._row.attempt, nanos, at_any_rate):
                    # It is no longer this attempt's: nothing is left to pay for.
                    self._per_second = 0
                    return True
            self._held += nanos
            return True
        except PaymentRequired:
            return await self._take_the_rest(wallet.spendable_nanos, nanos)

    async def _take_the_rest(self, left: int | None, wanted: int) -> bool:
        """Less than was asked for: it lasts for a while, and then there is no more."""
        if left is None or not 0 < left < wanted:
            return False
        try:
            async with self._database.transaction() as tx:
                if await holds.extend(tx, self._row.id, self._row.attempt, left):
                    self._held += left
        except PaymentRequired:
            log.info("somebody else has taken what was left", prediction=self._row.id)
        return False


def price_of(row: Row, micros: int, units: list[dict] | None) -> int:
    """What a run comes to at the prices frozen when it started."""
    if units is not None:
        return sum(line["amount_nanos"] for line in units)
    return amount_nanos(micros, row.price_nanos_per_second or 0)
