"""Instances at work, whose reports are lost, repeated and late, by a wall clock that jumps, at prices that change.

Their own counters are the truth that it compares with: what the rows say is at most that, in the phase and at a price
that held, and every nanodollar that was held comes back. The database's clock is scripted by a function that hides its
own `now()`.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Row, func, select, text

from core import fleet
from core.catalog import Runnable
from core.database import Transaction
from core.lifecycle import InstanceStatus
from core.money import credits, folding, ledger, prices, wallets
from core.money.pricing import MICROS_PER_SECOND, amount_nanos
from core.resources import Resources
from core.tables import Instance, InstanceTime, LedgerEntry, Price, UsageRecord
from core.usage import instance_holds, instance_time
from core.usage.instance_time import PHASES, Counters
from tests.core.instances_at_work import add_paid_instance, owner_of
from tests.support.factories import PRICE_NANOS_PER_SECOND, add_node, add_runnable

Result = TypeVar("Result")
#: Half a minute before a day, and an hour, are over.
BEGINS_AT = datetime(2028, 2, 28, 23, 59, 30, tzinfo=UTC)
SCRIPTED_NOW = """
    CREATE SCHEMA IF NOT EXISTS scripted;
    CREATE OR REPLACE FUNCTION scripted.now() RETURNS timestamptz LANGUAGE sql STABLE AS
        $$ SELECT current_setting('scripted.now')::timestamptz $$
"""
WHICH = st.integers(0, 2)
SPENT = st.integers(0, 90 * MICROS_PER_SECOND) | st.integers(0, 3)
JUMPS = st.sampled_from([1.0, 5.0, 31.0, 61.0, 3600.0, 3661.0, 86_400.0, -5.0, -61.0, -7200.0])
NEW_PRICE = st.sampled_from([0, 1, PRICE_NANOS_PER_SECOND, 3 * PRICE_NANOS_PER_SECOND])
CREDIT = st.sampled_from([1, 40 * PRICE_NANOS_PER_SECOND, 1000 * PRICE_NANOS_PER_SECOND])
MAX_INSTANCES = 4


@dataclass
class Expected:
    """What an Instance's own stopwatch says, and what of that has been heard."""

    counters: Counters = Counters(0, 0, 0)
    told: list[Counters] = field(default_factory=list)
    heard: Counters = Counters(0, 0, 0)
    is_live: bool = True


class InstanceTimeMachine(RuleBasedStateMachine):
    """`run` and `resources` are given by the test: real Postgres, real Redis."""

    run: Callable[[Awaitable[Any]], Any]
    resources: Resources
    limit: int | None
    when_empty: str

    def do(self, verb: Callable[..., Awaitable[Result]], *arguments: Any, **keywords: Any) -> Result:
        async def call() -> Result:
            async with self.resources.database.transaction() as tx:
                await tx.execute(text("SET LOCAL search_path = scripted, pg_catalog, public"))
                await tx.execute(select(func.set_config("scripted.now", self.now.isoformat(), True)))
                return await verb(tx, *arguments, **keywords)

        return type(self).run(call())

    def query(self, statement: Any) -> list[Row]:
        async def ask(tx: Transaction) -> list[Row]:
            return list(await tx.all(statement))

        return self.do(ask)

    @initialize(limit=st.sampled_from([None, 0, 0]), when_empty=st.sampled_from(wallets.RULES))
    def scene(self, limit: int | None, when_empty: str) -> None:
        self.now = BEGINS_AT
        self.limit, self.when_empty = limit, when_empty
        self.expected: dict[str, Expected] = {}
        self.runnable: Runnable = self.do(add_runnable)
        self.node = self.do(add_node)
        self.owner_id: str = self.do(owner_of, self.runnable)
        if limit is not None:
            self.do(wallets.set_terms, self.owner_id, credit_limit_nanos=limit, when_empty=when_empty)
        self.begin()

    def live(self, which: int) -> str | None:
        """One of those that live."""
        ids = [id for id, expected in self.expected.items() if expected.is_live]
        return ids[which % len(ids)] if ids else None

    # --- what happens ---

    @precondition(lambda self: len(self.expected) < MAX_INSTANCES)
    @rule()
    def begin(self) -> None:
        self.expected[self.do(add_paid_instance, self.node, self.runnable)] = Expected()

    @rule(which=WHICH, phase=st.sampled_from(PHASES), micros=SPENT)
    def spend(self, which: int, phase: str, micros: int) -> None:
        if (id := self.live(which)) is not None:
            counters = self.expected[id].counters
            self.expected[id].counters = counters._replace(**{phase: getattr(counters, phase) + micros})

    @rule(is_lost=st.sampled_from([False, False, True]))
    def report(self, is_lost: bool) -> None:
        """Of all of them, in one statement."""
        told = {id: expected.counters for id, expected in self.expected.items()}
        for id, expected in self.expected.items():
            expected.told.append(told[id])
        if not is_lost:
            self.hear(told)

    @rule(which=st.integers(0, 5))
    def an_earlier_report_comes_late(self, which: int) -> None:
        self.hear(
            {
                id: expected.told[-1 - which % len(expected.told)]
                for id, expected in self.expected.items()
                if expected.told
            }
        )

    def hear(self, told: dict[str, Counters]) -> None:
        self.do(instance_time.report, told)
        for id, counters in told.items():
            expected = self.expected[id]
            if expected.is_live:
                expected.heard = Counters(*map(max, expected.heard, counters))

    @rule(seconds=JUMPS)
    def the_clock_moves(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(nanos=NEW_PRICE)
    def the_price_changes(self, nanos: int) -> None:
        sku = self.runnable.hardware_sku
        self.do(prices.put, kind=prices.HARDWARE, subject=sku, nanos_per_unit=nanos, created_by="test")

    @rule(nanos=CREDIT)
    def money_comes(self, nanos: int) -> None:
        money = {"amount_nanos": nanos, "reason": "test", "actor": "test"}
        self.do(credits.add, self.owner_id, kind=credits.PAID, **money)

    @rule()
    def hold(self) -> None:
        mine = [row for row in self.do(instance_holds.short) if row.owner_id == self.owner_id]
        if mine:
            self.do(instance_holds.fill, self.owner_id, mine)

    @rule()
    def close(self) -> None:
        self.do(instance_time.close)

    @rule()
    def release(self) -> None:
        self.do(instance_holds.release)

    @rule(which=WHICH, tells=st.booleans())
    def end(self, which: int, tells: bool) -> None:
        """As its node ends it, with a last report; or as a node that is lost, without."""
        if (id := self.live(which)) is None:
            return
        if tells:
            self.hear({id: self.expected[id].counters})
        self.do(fleet.move_instance, id, InstanceStatus.READY, InstanceStatus.FAILED, reason="x")
        self.expected[id].is_live = False

    # --- what must hold ---

    def spent(self) -> tuple[list[Row], list[Row], list[Row]]:
        """Usage records, time that is open, and Instances."""

        async def ask(tx: Transaction) -> tuple[list[Row], list[Row], list[Row]]:
            mine = list(self.expected)
            return (
                list(await tx.all(select(UsageRecord).where(UsageRecord.account_id == self.owner_id))),
                list(await tx.all(select(InstanceTime).where(InstanceTime.instance_id.in_(mine)))),
                list(await tx.all(select(Instance).where(Instance.id.in_(mine)))),
            )

        return self.do(ask)

    @invariant()
    def all_that_was_heard_is_recorded_or_open_in_its_phase(self) -> None:
        if not getattr(self, "expected", None):
            return
        found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        records, waiting, instances = self.spent()
        for row in records:
            found[row.cause_id.partition(":")[0]][row.phase] += row.micros
        for row in waiting:
            found[row.instance_id][row.phase] += row.micros
        for row in instances:
            expected = self.expected[row.id]
            heard = Counters(*(found[row.id][phase] for phase in PHASES))
            assert heard == expected.heard == (row.setup_micros, row.idle_micros, row.active_micros)
            assert all(counted <= true for counted, true in zip(heard, expected.counters, strict=True))

    def teardown(self) -> None:
        if not getattr(self, "expected", None):
            return
        while self.live(0) is not None:
            self.end(0, True)
        self.hold()
        while self.do(instance_time.close):
            pass
        self.release()
        while self.do(folding.fold, self.owner_id):
            pass
        self.charges_are_right()

    def charges_are_right(self) -> None:
        records, waiting, instances = self.spent()
        assert not waiting
        assert {row.held_nanos for row in instances} == {0}
        book = {row.id: row for row in self.query(select(Price).where(Price.subject == self.runnable.hardware_sku))}
        for record in records:
            assert record.price_nanos_per_second == book[record.price_id].nanos_per_unit
            assert record.amount_nanos == amount_nanos(record.micros, record.price_nanos_per_second)
            assert record.day == record.ended_at.astimezone(UTC).date()
            assert record.started_at <= record.ended_at
            assert record.ended_at.year == BEGINS_AT.year, "by the scripted clock"
        own = ledger.account(self.owner_id)
        entries = self.query(select(LedgerEntry).where(LedgerEntry.ledger_account == own))
        charged = -sum(entry.amount_nanos for entry in entries if entry.kind == "usage")
        waived = sum(entry.amount_nanos for entry in entries if entry.kind == "waiver")
        assert charged == sum(record.amount_nanos for record in records)
        assert 0 <= waived <= charged
        wallet = self.do(wallets.get, self.owner_id)
        assert wallet.held_nanos == 0
        assert wallet.balance_nanos == sum(entry.amount_nanos for entry in entries)
        if self.limit is None:
            assert waived == 0
        elif self.when_empty == wallets.STOP:
            assert wallet.balance_nanos >= -self.limit
