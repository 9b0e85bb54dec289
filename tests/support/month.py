"""February of a leap year on a small installation, by the platform's own verbs and statements, in seconds.

Time is what the database says it is, so that is where it is simulated: in a database of its own, whose search path
finds `now()` and `clock_timestamp()` in a schema `simulated` before those of Postgres. The same month every time, but
for ids. What columns are given by default (`created_at`) is real time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Row

import migrations
from core import fleet, predictions, unstarted
from core.catalog import Runnable
from core.database import Transaction, sqlalchemy_url
from core.errors import Conflict, PaymentRequired
from core.lifecycle import FailureCode, InstanceStatus, PredictionStatus
from core.money import credits, folding, holds, prices, refunds, wallets
from core.money.pricing import MICROS_PER_SECOND, NANOS_PER_DOLLAR, unit_lines
from core.predictions import Outcome, Request
from core.resources import Resources
from core.usage import instance_time
from core.usage.instance_owners import ALWAYS, NEVER
from core.usage.instance_time import Counters
from tests.support.factories import add_account, add_node, add_runnable

BEGINS, ENDS = datetime(2028, 2, 1, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)
#: The last group of each day runs across midnight.
HOURS = (0.5, 8.25, 17.5, 23.99)
RUNS_AT_ONCE = 10
_NAME = "simulated_month"

_CLOCK = """
CREATE SCHEMA simulated;
CREATE TABLE simulated.clock (at timestamptz);
INSERT INTO simulated.clock VALUES ('2028-01-31T12:00:00Z');
CREATE FUNCTION simulated.now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT at FROM simulated.clock';
CREATE FUNCTION simulated.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT at FROM simulated.clock';
"""


@contextmanager
def simulated_database(url: str) -> Iterator[str]:
    """The url of a new one beside that of `url`, with the newest tables, in which time stands until it is set."""
    beside = sa.make_url(url).set(database=_NAME).render_as_string(hide_password=False)
    _execute(url, f"CREATE DATABASE {_NAME}")
    try:
        migrations.upgrade(beside)
        _execute(beside, _CLOCK)
        _execute(beside, f"ALTER DATABASE {_NAME} SET search_path = simulated, public, pg_catalog")
        yield beside
    finally:
        _execute(url, f"DROP DATABASE {_NAME} WITH (FORCE)")


def _execute(url: str, sql: str) -> None:
    engine = sa.create_engine(sqlalchemy_url(url), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(sql.replace(":", r"\:")))


@dataclass
class Month:
    resources: Resources
    random: Random = field(default_factory=lambda: Random(7))
    accounts: list[Row] = field(default_factory=list)
    limits: dict[str, int | None] = field(default_factory=dict)
    runnables: list[Runnable] = field(default_factory=list)
    instances: dict[str, str] = field(default_factory=dict)
    """By target."""
    boot_id: str = ""
    counters: dict[str, Counters] = field(default_factory=dict)
    estimates: dict[tuple[str, ...], int] = field(default_factory=dict)
    happened: dict[str, int] = field(default_factory=dict)

    async def do(self, verb: Any, *arguments: Any, **keywords: Any) -> Any:
        async with self.resources.database.transaction() as tx:
            return await verb(tx, *arguments, **keywords)

    async def pass_by(self) -> None:
        """All of it, until everything has ended and been added up."""
        await self.do(self._furnish)
        moments = [BEGINS + timedelta(days=day, hours=hour) for day in range((ENDS - BEGINS).days) for hour in HOURS]
        for moment in moments:
            await self.do(self._set, moment)
            if moment.hour == 8:
                await self._people_act(moment.day)
            rows = await self.do(self._start, await self._create_some())
            if moment.day == 15:
                await self.do(self._change_prices)
            await self.do(self._end, rows, moment)
            await self.do(self._add_up)
        await self.do(self._close)

    def note(self, what: str, count: int = 1) -> None:
        self.happened[what] = self.happened.get(what, 0) + count

    # --- the installation ---

    async def _furnish(self, tx: Transaction) -> None:
        node = await add_node(tx, lease_seconds=60 * 24 * 3600)
        self.boot_id = node.boot_id
        for limit in (0, 0, 50 * NANOS_PER_DOLLAR, None):
            account = await add_account(tx)
            await wallets.set_terms(tx, account.id, credit_limit_nanos=limit)
            self.accounts.append(account)
            self.limits[account.id] = limit
        for bills in (NEVER, NEVER, ALWAYS):
            runnable = await add_runnable(tx)
            self.runnables.append(runnable)
            at = {"node_id": node.id, "target": runnable.target, "version_id": runnable.version_id}
            how = {"hardware_sku": runnable.hardware_sku, "slots": 1, "gpu_uuids": (), "bill_instances": bills}
            id = self.instances[runnable.target] = await fleet.assign(tx, **at, **how)
            await fleet.move_instance(tx, id, InstanceStatus.PENDING, InstanceStatus.STARTING)
            await fleet.move_instance(tx, id, InstanceStatus.STARTING, InstanceStatus.READY)
            self.counters[id] = Counters(0, 0, 0)
        images = {"kind": prices.MODEL, "subject": self.runnables[1].model, "metric": "image_count"}
        steps = [{"above": 300, "nanos_per_unit": 2_000_000}]
        await prices.put(tx, **images, nanos_per_unit=3_000_000, free_units=40, steps=steps, created_by="admin")

    async def _change_prices(self, tx: Transaction) -> None:
        """While something runs."""
        dearer = {"kind": prices.HARDWARE, "subject": self.runnables[0].hardware_sku, "created_by": "admin"}
        await prices.put(tx, **dearer, nanos_per_unit=self.random.randrange(800_000, 900_000))
        own = {"account_id": self.accounts[0].id, "free_units": 60, "nanos_per_unit": 700_001}
        await prices.put(tx, **dearer, **own)

    async def _set(self, tx: Transaction, moment: datetime) -> None:
        await tx.execute(sa.text("UPDATE simulated.clock SET at = :at").bindparams(at=moment))

    # --- people ---

    async def _people_act(self, day: int) -> None:
        by = {"actor": "admin", "reason": "as agreed"}
        if day % 7 == 1:
            for account in self.accounts[:2]:
                await self.do(credits.add, account.id, kind=credits.PAID, amount_nanos=NANOS_PER_DOLLAR, **by)
        if day % 10 == 2:
            ends = {"expires_at": BEGINS + timedelta(days=day + 3)}
            given = {"kind": credits.PROMOTIONAL, "amount_nanos": 5 * NANOS_PER_DOLLAR, **ends, **by}
            await self.do(credits.add, self.accounts[2].id, **given)
        if day == 20:
            await self.do(credits.adjust, self.accounts[3].id, amount_nanos=12_345, at_any_rate=True, **by)
        if day % 3 == 0:
            await self._refund_one(by)

    async def _refund_one(self, by: dict[str, str]) -> None:
        some = (
            "SELECT * FROM usage_records WHERE cause_kind = 'prediction' ORDER BY ended_at DESC, amount_nanos LIMIT 1"
        )
        usage = await self.do(lambda tx: tx.one(sa.text(some)))
        amount = self.random.choice([None, usage.amount_nanos // 2, usage.amount_nanos + 1])
        try:
            await self.do(refunds.give, usage, amount_nanos=amount or None, **by)
            self.note("refunded")
        except Conflict:
            self.note("refund refused")

    # --- runs ---

    async def _create_some(self) -> list[Row]:
        self.estimates.clear()
        rows = [await self._create_one() for _ in range(RUNS_AT_ONCE)]
        return [row for row in rows if row is not None]

    async def _hold(self, account: Row, runnable: Runnable) -> int | None:
        """As the api does: remembered for a moment."""
        if self.limits[account.id] is None:
            return None
        of = (account.id, runnable.model, runnable.version_id, runnable.hardware_sku)
        if of not in self.estimates:
            self.estimates[of] = await self.do(holds.estimate, *of)
        return self.estimates[of]

    async def _create_one(self) -> Row | None:
        account, runnable = self.random.choice(self.accounts), self.random.choice(self.runnables)
        hold = await self._hold(account, runnable)
        tags = self.random.choice([None, {"team": "vision"}, {"team": "audio", "job": "nightly"}])
        request = Request(account.id, runnable, {"text": "x"}, tags=tags, hold_nanos=hold, token_id="token")
        try:
            # A transaction of its own, since the database breaks off one that it refuses to fund.
            row = await self.do(predictions.create, request)
        except PaymentRequired:
            self.note("payment required")
            return None
        return row

    async def _start(self, tx: Transaction, waiting: list[Row]) -> list[Row]:
        canceled = [row.id for row in waiting if self.random.random() < 0.05]
        await unstarted.cancel(tx, predictions.TABLE.c.id.in_(canceled))
        self.note("canceled", len(canceled))
        left = [row for row in waiting if row.id not in canceled]
        return [await predictions.start(tx, row.id, self.instances[row.target], self.boot_id) for row in left]

    async def _end(self, tx: Transaction, rows: list[Row], began: datetime) -> None:
        ran = sorted(round(self.random.lognormvariate(3, 1) * MICROS_PER_SECOND) for _ in rows)
        for number, (row, micros) in enumerate(zip(rows, ran, strict=True)):
            if number % 4 == 0:
                await self._set(tx, began + timedelta(microseconds=ran[min(number + 3, len(ran) - 1)]))
            await self._end_one(tx, row, micros)
        for id, before in self.counters.items():
            idle, active = self.random.randrange(10**10), self.random.randrange(10**9)
            self.counters[id] = Counters(before.setup or 7_654_321, before.idle + idle, before.active + active)
        await instance_time.report(tx, self.counters)

    async def _end_one(self, tx: Transaction, row: Row, ran: int) -> None:
        fate = self.random.random()
        if fate < 0.03:
            self.note("interrupted")
            await predictions.interrupt(tx, row.id, row.attempt, allows_retry=False)
            return
        failed = fate < 0.15
        code = None if not failed else FailureCode.CONTAINER_LOST if fate < 0.06 else FailureCode.MODEL
        if row.held_nanos is not None and fate > 0.7:
            await self._extend(tx, row)
        units = None
        if row.unit_prices is not None:
            units = unit_lines(row.unit_prices, {} if failed else {"image_count": self.random.randrange(1, 5)})
        status = PredictionStatus.FAILED if failed else PredictionStatus.SUCCEEDED
        self.note(status)
        await predictions.finish(tx, row.id, row.attempt, Outcome(status, failure_code=code, micros=ran, units=units))

    async def _extend(self, tx: Transaction, row: Row) -> None:
        more = 30 * (row.price_nanos_per_second or 0)
        if (await wallets.get(tx, row.account_id)).spendable_nanos >= more:
            await holds.extend(tx, row.id, row.attempt, more)
            self.note("hold extended")

    # --- what the scheduler does ---

    async def _add_up(self, tx: Transaction) -> None:
        while await instance_time.close(tx):
            pass
        while await folding.fold(tx):
            pass
        await credits.expire(tx)
        await refunds.by_rule(tx, [FailureCode.CONTAINER_LOST.value])

    async def _close(self, tx: Transaction) -> None:
        await self._set(tx, ENDS + timedelta(hours=2))
        for id in self.instances.values():
            await fleet.move_instance(tx, id, InstanceStatus.READY, InstanceStatus.FAILED, reason="the month is over")
        await self._add_up(tx)
