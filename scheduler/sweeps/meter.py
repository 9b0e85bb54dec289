"""Turns the time of Instances into charges, keeps money set aside for it, and notes how long devices were there.

An Instance whose owner has no money left is let go; what runs on it ends or is canceled, by the rule of the wallet.
"""

from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from sqlalchemy import Row

from core import fleet
from core.clock import monotonic
from core.database import Transaction
from core.lifecycle import FailureCode
from core.log import get_logger
from core.money import alerts, wallets
from core.money.pricing import MICROS_PER_SECOND
from core.usage import capacity, instance_holds, instance_time
from scheduler.sweeps.base import Context, Sweep

INTERVAL_SECONDS = 10.0
#: The other sweeps wait meanwhile: after this no further batch begins, and the next pass goes on.
PASS_SECONDS = 0.25
#: Nobody knows what was there in between: a pass that comes so late adds no capacity.
MOST_SECONDS = 3 * INTERVAL_SECONDS

CANCELED = f"{FailureCode.INSUFFICIENT_FUNDS}: the account that pays for this instance has no money left."
LET_GO = f"The account that pays for this instance has no money left ({FailureCode.INSUFFICIENT_FUNDS})."

log = get_logger()


@dataclass(slots=True)
class Stretch:
    """From one pass to the next, by this process's own clock: while it is down nothing is added."""

    began: float | None = None

    def micros(self, now: float) -> int:
        """Since it began."""
        seconds = 0.0 if self.began is None else now - self.began
        return int(seconds * MICROS_PER_SECOND) if seconds <= MOST_SECONDS else 0


_stretch = Stretch()


async def run(context: Context) -> None:
    await _hold(context)
    await _close(context)
    await _note_capacity(context)


async def _hold(context: Context) -> None:
    """Before anything is closed: what has been counted is charged as far as there is money for it."""
    database = context.resources.database
    async with database.autocommit() as tx:
        rows = await instance_holds.short(tx)
    for owner_id, theirs in groupby(rows, attrgetter("owner_id")):
        async with database.transaction() as tx:
            rule, unpaid = await instance_holds.fill(tx, owner_id, list(theirs))
            for row in unpaid:
                if row.is_live:
                    await _let_go(tx, row, rule)


async def _let_go(tx: Transaction, row: Row, rule: str) -> None:
    if not await fleet.run_out_of_money(tx, row.id, LET_GO if rule == wallets.FINISH else CANCELED):
        return
    log.info("letting go, no money left", instance=row.id, owner=row.owner_id, rule=rule)
    serves = row.deployment or row.model
    details = {"instance_id": row.id, "model": row.model, "deployment": row.deployment}
    message = f"A container of {serves} was stopped: there is too little money left for the next minute of it."
    await alerts.tell(
        tx, row.owner_id, FailureCode.INSUFFICIENT_FUNDS.value, message, details, id=f"insufficient_funds:{row.id}"
    )


async def _close(context: Context) -> None:
    database, ends_at = context.resources.database, monotonic() + PASS_SECONDS
    count = instance_time.AT_ONCE
    while count == instance_time.AT_ONCE and monotonic() < ends_at:
        async with database.autocommit() as tx:
            count = await instance_time.close(tx)
    async with database.autocommit() as tx:
        await instance_holds.release(tx)


async def _note_capacity(context: Context) -> None:
    now = monotonic()
    if micros := _stretch.micros(now):
        async with context.resources.database.transaction() as tx:
            await capacity.add(tx, micros)
    _stretch.began = now


SWEEP = Sweep("meter", INTERVAL_SECONDS, run)
