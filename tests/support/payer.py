"""An Account that pays for what it runs: every step by the verb that the platform uses for it."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select

from core import predictions
from core.catalog import Runnable
from core.lifecycle import FailureCode, PredictionStatus
from core.money import credits, folding, prices, refunds, wallets
from core.money.pricing import unit_lines
from core.predictions import Outcome, Request
from core.resources import Resources
from core.tables import LedgerEntry, UsageRecord
from tests.support.factories import add_account, add_instance, add_node, add_runnable
from tests.support.money import prove

BY_HAND = {"reason": "because", "actor": "somebody"}


@dataclass(frozen=True)
class Payer:
    resources: Resources
    id: str
    runnable: Runnable
    holder: tuple[str, str]

    async def do(self, verb: Any, *arguments: Any, **keywords: Any) -> Any:
        async with self.resources.database.transaction() as tx:
            return await verb(tx, *arguments, **keywords)

    async def rows(self, statement: Any) -> list[Row]:
        async with self.resources.database.autocommit() as tx:
            return list(await tx.all(statement))

    # --- what it does ---

    async def put_in(self, nanos: int, kind: str = credits.PAID, **terms: Any) -> Row:
        return await self.do(credits.add, self.id, kind=kind, amount_nanos=nanos, **BY_HAND, **terms)

    async def create(self, hold: int | None, **fields: Any) -> Row:
        request = Request(self.id, self.runnable, {"text": "hello"}, hold_nanos=hold, **fields)
        async with self.resources.database.direct() as tx:
            return await predictions.create(tx, request)

    async def start(self, id: str) -> Row:
        async with self.resources.database.direct() as tx:
            return await predictions.start(tx, id, *self.holder)

    async def finish(
        self,
        row: Row,
        micros: int | None,
        counted: dict[str, Any] | None = None,
        status: PredictionStatus = PredictionStatus.SUCCEEDED,
        failure_code: FailureCode | None = None,
    ) -> None:
        units = None if row.unit_prices is None else unit_lines(row.unit_prices, counted or {})
        outcome = Outcome(status, "done", failure_code=failure_code, micros=micros, units=units)
        async with self.resources.database.direct() as tx:
            await predictions.finish(tx, row.id, row.attempt, outcome)

    async def run(self, micros: int, hold: int | None = None, **ends: Any) -> str:
        """Its id, once it has ended and been added up."""
        fields = {name: ends.pop(name) for name in ("token_id", "tags") if name in ends}
        waiting = await self.create(hold, **fields)
        await self.finish(await self.start(waiting.id), micros, **ends)
        await self.fold()
        return waiting.id

    async def fold(self) -> None:
        while await self.do(folding.fold, self.id):
            pass

    async def refund(self, id: str, nanos: int | None = None) -> int:
        usage = await self.do(refunds.usage_of, id)
        return await self.do(refunds.give, usage, amount_nanos=nanos, **BY_HAND)

    async def price(self, nanos: int | None, **terms: Any) -> Row:
        """Of its Hardware's second, or of one of its Model's metrics."""
        if "metric" in terms:
            of = {"kind": prices.MODEL, "subject": self.runnable.model}
        else:
            of = {"kind": prices.HARDWARE, "subject": self.runnable.hardware_sku}
        return await self.do(prices.put, **of, nanos_per_unit=nanos, created_by="somebody", **terms)

    # --- what it sees ---

    async def wallet(self) -> Row:
        return await self.do(wallets.get, self.id)

    async def balance(self) -> int:
        return (await self.wallet()).balance_nanos

    async def usage(self, id: str) -> Row:
        [row] = await self.rows(select(UsageRecord).where(UsageRecord.cause_id == id))
        return row

    async def entries(self, kind: str) -> list[Row]:
        own = (LedgerEntry.ledger_account == f"account:{self.id}", LedgerEntry.kind == kind)
        return await self.rows(select(LedgerEntry).where(*own).order_by(LedgerEntry.created_at))

    async def proven(self) -> Row:
        """Its books, which agree."""
        return (await self.do(prove, [self.id]))[self.id]


async def open_payer(
    resources: Resources, *, limit: int | None = 0, put_in: int = 0, when_empty: str = "stop", **terms: Any
) -> Payer:
    """Prepaid unless it has a limit; None: without one. It runs a Model of its own, on a Hardware of its own."""
    async with resources.database.transaction() as tx:
        account, runnable, node = await add_account(tx), await add_runnable(tx), await add_node(tx)
        await wallets.set_terms(tx, account.id, credit_limit_nanos=limit, when_empty=when_empty, **terms)
        instance = await add_instance(tx, node, runnable)
    payer = Payer(resources, account.id, runnable, (instance, node.boot_id))
    if put_in:
        await payer.put_in(put_in)
    return payer
