"""Everything that moves money, in any order, two at a time and broken off, and what must hold after each step.

The machine keeps books of its own: each Account's purse, each run's hold, and the prices it has set. It is told what
the verbs answered, never what they wrote; it computes charges anew, and compares.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import ARRAY, Row, Text, bindparam, func, select

from core.database import Hot, Transaction
from core.errors import Conflict, Invalid, NotFound, PaymentRequired, StaleWrite
from core.money import credits, folding, prices, wallets
from core.money.pricing import price_of_volume
from core.resources import Resources
from core.tables import LedgerEntry, Prediction, Price, UsageRecord, Volume
from tests.core.money_deeds import METRICS, Deed, Deeds, Purse, Run
from tests.support.factories import PRICE_NANOS_PER_SECOND, add_account, add_instance, add_node, add_runnable
from tests.support.money import books, prove

#: Around what a run holds and costs here, and far beyond.
AMOUNTS = st.one_of(
    st.sampled_from([0, 1, 10**6, 10 * PRICE_NANOS_PER_SECOND, 10**9, 10**12, 10**18]),
    st.integers(0, 30 * PRICE_NANOS_PER_SECOND),
    st.integers(0, 10**10),
)
WHICH = st.integers(0, 11)
CLASHING = (
    ["create", "start", "finish"] * 8
    + ["cancel", "extend", "put_in", "refund", "fold"] * 3
    + ["interrupt", "refuse", "expire", "adjust", "expire_credit"]
)
ALONE = st.sampled_from(CLASHING + ["reprice"] * 3 + ["change_terms"])
CRASH = "crash"
BESIDE = st.sampled_from([None] * 4 * len(CLASHING) + [CRASH] * (len(CLASHING) // 2) + CLASHING)
REFUSALS = (PaymentRequired, Conflict, Invalid, StaleWrite, NotFound)

_ROWS = Hot(
    select(
        *(Prediction.__table__.c[n] for n in ("id", "status", "attempt", "held_nanos", "unit_prices", "completed_at"))
    ).where(Prediction.id == func.any(bindparam("p_ids", type_=ARRAY(Text))))
)


class Crash(Exception):
    """The process died before its transaction was committed."""


class MoneyMachine(Deeds, RuleBasedStateMachine):
    """`run` and `resources` are given by the test: real Postgres, real Redis."""

    run: Callable[[Awaitable[Any]], Any]
    """Until it is done, on the loop of `resources`."""
    resources: Resources
    steps = 0

    async def attempt(self, deed: Deed, crashes: bool = False) -> Any:
        """Its result, or why it was refused."""
        database = self.resources.database
        try:
            async with database.direct() if deed.is_direct and not crashes else database.transaction() as tx:
                result = await deed.verb(tx)
                if crashes:
                    raise Crash
            return result
        except (*REFUSALS, Crash) as refusal:
            return refusal

    def do(self, verb: Callable[..., Awaitable[Any]], *arguments: Any, **keywords: Any) -> Any:
        async def call() -> Any:
            async with self.resources.database.transaction() as tx:
                return await verb(tx, *arguments, **keywords)

        return self.run(call())

    @initialize()
    def scene(self) -> None:
        type(self).steps -= 1
        self.runs: dict[str, Run] = {}
        self.book: dict[tuple[str, str, str | None], int | None] = {}
        terms = [(0, "stop"), (0, "finish"), (5_000_000, "stop"), (None, "stop")]
        self.purses = [self.open(limit, when_empty) for limit, when_empty in terms]
        self.runnables = [self.do(add_runnable), self.do(add_runnable)]
        for runnable in self.runnables:
            self.book[runnable.hardware_sku, prices.SECOND, None] = PRICE_NANOS_PER_SECOND
        for which in (0, 1):
            self.alone(self.put_in(which, 40_000_000, False))
        self.alone(self.repricing(self.runnables[1], METRICS[0], None, 3_000_000))
        node = self.do(add_node)
        self.boot_id = node.boot_id
        self.instances = {runnable.target: self.do(add_instance, node, runnable) for runnable in self.runnables}

    def open(self, limit: int | None, when_empty: str) -> Purse:
        account = self.do(add_account)
        self.do(wallets.set_terms, account.id, credit_limit_nanos=limit, when_empty=when_empty)
        return Purse(account.id, limit, may_owe=when_empty == "finish" or limit is None)

    # --- what happens ---

    @rule(name=ALONE, beside=BESIDE, which=WHICH, amount=AMOUNTS, flag=st.booleans())
    def step(self, name: str, beside: str | None, which: int, amount: int, flag: bool) -> None:
        deed = getattr(self, name)(which, amount, flag)
        if deed is None:
            return
        if beside == CRASH:
            # It is as if it had never been.
            assert isinstance(self.run(self.attempt(deed, crashes=True)), (*REFUSALS, Crash))
        elif beside is None or not deed.may_clash:
            self.alone(deed)
        else:
            # Mostly about the same Account or run.
            self.together(deed, getattr(self, beside)(which if flag else which + 1, amount // 2, not flag))

    def alone(self, deed: Deed) -> None:
        result = self.run(self.attempt(deed))
        if deed.sets_aside is not None:
            purse, nanos = deed.sets_aside
            row = self.seen[purse.id]
            assert isinstance(result, PaymentRequired) == (row.balance_nanos + purse.limit - row.held_nanos < nanos)
        if not isinstance(result, REFUSALS):
            deed.settle(result)

    def together(self, *deeds: Deed | None) -> None:
        """On two connections."""
        deeds = [deed for deed in deeds if deed is not None]

        async def attempts() -> list[Any]:
            return await asyncio.gather(*(self.attempt(deed) for deed in deeds))

        done = zip(deeds, self.run(attempts()), strict=True)
        for deed, result in sorted(done, key=lambda pair: not pair[0].comes_first):
            if not isinstance(result, REFUSALS):
                deed.settle(result)

    # --- what must hold ---

    @invariant()
    def everything_adds_up(self) -> None:
        if not getattr(self, "instances", None):
            return
        type(self).steps += 1
        lived = self.live()
        self.seen, rows = self.run(self.look([run.id for run in lived]))
        for run in lived:
            run.row = rows[run.id]
            assert run.row.held_nanos == run.hold
        for purse in self.purses:
            row = self.seen[purse.id]
            assert row.ledger_nanos == purse.put_in - purse.charged + row.discount_nanos - row.expired_nanos
            if not purse.may_owe:
                assert row.ledger_nanos + purse.limit - row.live_holds_nanos >= 0, (
                    f"more was spent than there is: {row}"
                )

    async def look(self, ids: list[str]) -> tuple[dict[str, Row], dict[str, Any]]:
        async with self.resources.database.direct() as tx:
            found = await books(tx, self.accounts)
            return found, {row.id: row for row in await tx.rows(_ROWS, {"p_ids": ids})}

    def teardown(self) -> None:
        if getattr(self, "seen", None):
            self.do(prove, self.accounts)
            self.everything_ends()
            self.do(self.each_run_was_charged_what_it_ran)

    def everything_ends(self) -> None:
        for run in self.live():
            deed = self.ending(run)
            deed.settle(self.run(self.attempt(deed)))
        while self.do(folding.fold):
            pass
        self.do(credits.expire)
        for row in self.do(prove, self.accounts).values():
            assert row.held_nanos == row.pending_nanos == row.released_nanos == 0

    async def each_run_was_charged_what_it_ran(self, tx: Transaction) -> None:
        runs = {f"prediction:{run.id}": run for run in self.runs.values() if run.micros is not None}
        records = await tx.all(select(UsageRecord).where(UsageRecord.account_id.in_(self.accounts)))
        assert {record.id for record in records} == runs.keys()
        waiver = (LedgerEntry.kind == "waiver", LedgerEntry.ledger_account.startswith("account:"))
        found = await tx.all(select(LedgerEntry).where(LedgerEntry.usage_record_id.in_(list(runs)), *waiver))
        waived = {entry.usage_record_id: entry.amount_nanos for entry in found}
        for record in records:
            run = runs[record.id]
            assert (record.account_id, record.micros) == (run.purse.id, run.micros)
            assert record.amount_nanos == run.amount
            assert waived.get(record.id, 0) == run.waived
        await self.volumes_were_priced(tx, [(record, runs[record.id].waived) for record in records])

    async def volumes_were_priced(self, tx: Transaction, records: list[tuple[Row, int]]) -> None:
        """What was counted of each price is what ran at it; what was given back is what its terms say."""
        lines = defaultdict(list)
        for record, waived in records:
            month = record.day.replace(day=1)
            for price_id, parts, charged in _lines(record, waived):
                lines[record.account_id, price_id, month].append((parts, charged))
        terms = {price.id: price for price in await tx.all(select(Price).where(prices.has_volume_terms()))}
        volumes = await tx.all(select(Volume).where(Volume.account_id.in_(self.accounts)))
        counted = {(row.account_id, row.price_id, row.month): row for row in volumes}
        assert counted.keys() == {key for key in lines if key[1] in terms}
        for key, row in counted.items():
            parts, charged = map(sum, zip(*lines[key], strict=True))
            assert (row.units, row.list_nanos) == (parts, charged)
            back = charged - price_of_volume(parts, *_terms(terms[row.price_id]))
            # Charges are rounded down one by one.
            assert max(0, back) <= row.discount_nanos <= min(charged, max(0, back) + len(lines[key]))

    @property
    def accounts(self) -> list[str]:
        return [purse.id for purse in self.purses]


def _lines(record: Row, waived: int) -> list[tuple[str, int, int]]:
    """(price, thousandths or microseconds, what they were charged): all that counts for a month's volume."""
    if waived or not record.amount_nanos:
        return []
    if record.units is None:
        return [(record.price_id, record.micros, record.amount_nanos)]
    return [(line["price_id"], int(line["quantity"] * 1000), line["amount_nanos"]) for line in record.units]


def _terms(price: Row) -> tuple[int, int, list[dict[str, int]], int]:
    parts = 10**6 if price.metric == prices.SECOND else 1000
    steps = [step | {"above": step["above"] * parts} for step in price.steps]
    return price.nanos_per_unit, price.free_units * parts, steps, parts
