"""Every verb of a prediction, in any order, by several nodes, and what must hold after each.

The machine keeps its own small model of what each prediction should be, told only by what the verbs answered, and
compares it with the rows. It knows the rules of `docs/states.md` and nothing of how the verbs are written.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Row, func, select

from core import fleet, predictions, queue, unstarted
from core.database import Transaction
from core.errors import NotFound, StaleWrite
from core.lifecycle import (
    PREDICTION_EDGES,
    DeliveryStatus,
    FailureCode,
    InstanceStatus,
    PredictionStatus,
    WebhookEvent,
)
from core.money.pricing import MICROS_PER_SECOND, amount_nanos
from core.predictions import MAX_ATTEMPTS, Outcome
from core.resources import Resources
from core.tables import LedgerEntry, Prediction, UsageRecord, WebhookDelivery
from tests.support.factories import LEASE_SECONDS, add_account, add_instance, add_node, add_prediction, add_runnable

S, C = PredictionStatus, InstanceStatus
Result = TypeVar("Result")
FINISHES = st.sampled_from([S.SUCCEEDED, S.FAILED, S.CANCELED])
MICROS = st.none() | st.integers(0, 30 * 60 * MICROS_PER_SECOND)
FILTERS = st.sampled_from([None, ["completed"], ["start", "logs"], ["output", "completed"]])
PRODUCED = st.sampled_from([(None, ""), (None, "a log\n"), (["chunk"], "")])
WHICH = st.integers(0, 5)
LAG = st.sampled_from([0, 0, 1])
#: Few of each, so that they meet.
MAX_LIVE, MAX_LIVES = 3, 6


@dataclass
class Expected:
    """What the verbs' answers say a prediction is."""

    row: Row
    status: S = S.STARTING
    attempt: int = 0
    holder: "tuple[Life, Container] | None" = None
    produced: bool = False
    cancel_requested: bool = False
    micros: int | None = None
    ended: Row | None = None
    ended_waiting: bool = False


@dataclass
class Container:
    """An Instance, and what it should be."""

    id: str
    node_id: str
    status: C = C.READY
    wanted: bool = True
    drains_within: float | None = None


@dataclass
class Life:
    """One life of a node, and the Instance it began with."""

    node: Row
    container: Container
    leased: bool = True
    current: bool = True
    """Whether its boot id is the node's: it has neither been declared lost nor followed by another life."""
    followed: bool = False

    def may_start(self, container: Container) -> bool:
        is_here = container.node_id == self.node.id and container.status is C.READY
        return self.leased and self.current and is_here


class PredictionMachine(RuleBasedStateMachine):
    """`run` and `resources` are given by the test: real Postgres, real Redis."""

    run: Callable[[Awaitable[Any]], Any]
    resources: Resources

    def do(self, verb: Callable[..., Awaitable[Result]], *arguments: Any, **keywords: Any) -> Result:
        async def call() -> Result:
            async with self.resources.database.transaction() as tx:
                return await verb(tx, *arguments, **keywords)

        return type(self).run(call())

    def query(self, statement: Any) -> list[Row]:
        async def ask(tx: Transaction) -> list[Row]:
            return list(await tx.all(statement))

        return self.do(ask)

    def row(self, id: str) -> Row:
        return self.do(predictions.find, id)

    @initialize()
    def scene(self) -> None:
        self.expected: dict[str, Expected] = {}
        self.all_lives: list[Life] = []
        self.containers: list[Container] = []
        self.accounts = [self.do(add_account), self.do(add_account)]
        self.runnable = self.do(add_runnable)
        self.begin()

    def id_of(self, which: int) -> str:
        """One of those that live, or the one that ended last: most of what can go wrong goes wrong there."""
        live = [id for id, expected in self.expected.items() if expected.ended is None]
        ended = [id for id, expected in self.expected.items() if expected.ended is not None]
        candidates = live + ended[-1:]
        return candidates[which % len(candidates)]

    def life_of(self, which: int) -> Life:
        """One of the last lives, the newest first."""
        return self.all_lives[-1 - which % min(3, len(self.all_lives))]

    # --- nodes ---

    def begin(self, name: str | None = None) -> Life:
        node = self.do(add_node, name=name)
        life = Life(node, Container(self.do(add_instance, node, self.runnable), node.id))
        self.all_lives.append(life)
        self.containers.append(life.container)
        return life

    @precondition(lambda self: len(self.all_lives) < MAX_LIVES)
    @rule()
    def a_node_comes(self) -> None:
        self.begin()

    @precondition(lambda self: len(self.all_lives) < MAX_LIVES)
    @rule(which=WHICH)
    def a_node_is_reborn(self, which: int) -> None:
        life = self.life_of(which)
        if not life.followed:
            life.followed, life.current = True, False
            self.begin(life.node.name)

    @rule(which=WHICH)
    def a_lease_runs_out(self, which: int) -> None:
        life = self.life_of(which)
        self.do(fleet.release_lease, life.node.id, life.node.boot_id)
        life.leased = life.leased and not life.current

    @rule(which=WHICH)
    def a_node_beats(self, which: int) -> None:
        life = self.life_of(which)
        renewed = self.do(fleet.heartbeat, life.node.id, life.node.boot_id, [], LEASE_SECONDS)
        assert renewed == life.current
        life.leased = life.leased or renewed

    @rule()
    def silent_nodes_are_declared_lost(self) -> None:
        silent = [life for life in self.all_lives if life.current and not life.leased]
        # Instances of an earlier life of a node go with it, unless they have ended.
        ids = {life.node.id for life in silent}
        gone = [each for each in self.containers if each.node_id in ids and not each.status.is_terminal]
        assert {container.id for container in gone} <= set(self.do(fleet.declare_lost))
        for life in silent:
            life.current = False
        for container in gone:
            container.status = C.FAILED

    @rule(which=WHICH)
    def a_container_dies(self, which: int) -> None:
        container = self.life_of(which).container
        moved = self.do(fleet.move_instance, container.id, C.READY, C.FAILED, reason="x")
        assert moved == (container.status is C.READY)
        container.status = C.FAILED if moved else container.status

    # --- the path ---

    @precondition(lambda self: sum(expected.ended is None for expected in self.expected.values()) < MAX_LIVE)
    @rule(
        who=st.integers(0, 1),
        webhook=st.sampled_from([None, "http://127.0.0.1:9/hook"]),
        events=FILTERS,
        deadline=st.sampled_from([None, -1.0, 3600.0]),
    )
    def create(self, who: int, webhook: str | None, events: list[str] | None, deadline: float | None) -> None:
        row = type(self).run(
            add_prediction(
                self.resources.database,
                self.accounts[who].id,
                self.runnable,
                webhook_url=webhook,
                webhook_events=events,
                deadline_seconds=deadline,
            )
        )
        self.expected[row.id] = Expected(row)

    @precondition(lambda self: self.expected)
    @rule(id=WHICH, life=WHICH)
    def start(self, id: int, life: int) -> None:
        self.start_on(self.id_of(id), self.life_of(life), self.life_of(life).container)

    @precondition(lambda self: self.expected)
    @rule(which=WHICH)
    def start_where_it_may(self, which: int) -> None:
        self.start_somewhere(self.id_of(which))

    def start_somewhere(self, id: str) -> None:
        life = next((life for life in self.all_lives if life.may_start(life.container)), None)
        if life is not None:
            self.start_on(id, life, life.container)

    def start_on(self, id: str, life: Life, container: Container) -> None:
        expected = self.expected[id]
        row = self.do(predictions.start, id, container.id, life.node.boot_id)
        assert (row is not None) == (expected.status is S.STARTING and life.may_start(container))
        if row is not None:
            assert row.attempt == expected.attempt + 1
            assert row.price_nanos_per_second is not None
            expected.status, expected.attempt, expected.holder = S.PROCESSING, row.attempt, (life, container)

    @precondition(lambda self: self.expected)
    @rule(which=WHICH, lag=LAG, produced=PRODUCED)
    def append(self, which: int, lag: int, produced: tuple[Any, str]) -> None:
        id = self.id_of(which)
        expected = self.expected[id]
        written = self.do(predictions.append, id, expected.attempt - lag, *produced)
        assert written == (expected.status is S.PROCESSING and lag == 0)
        if written:
            expected.produced = produced != (None, "")

    @precondition(lambda self: self.expected)
    @rule(which=WHICH, lag=LAG, status=FINISHES, micros=MICROS)
    def finish(self, which: int, lag: int, status: S, micros: int | None) -> None:
        id = self.id_of(which)
        expected = self.expected[id]
        outcome = Outcome(status, output="done", logs="said\n", metrics={"predict_time": 1.5}, micros=micros)
        if expected.status is S.PROCESSING and lag == 0:
            self.do(predictions.finish, id, expected.attempt, outcome)
            self.has_ended(expected, status, micros)
        else:
            with pytest.raises(StaleWrite):
                self.do(predictions.finish, id, expected.attempt - lag, outcome)

    # --- the ways out ---

    @precondition(lambda self: self.expected)
    @rule(which=WHICH, by_owner=st.booleans())
    def cancel(self, which: int, by_owner: bool) -> None:
        id = self.id_of(which)
        expected = self.expected[id]
        owner = expected.row.account_id
        if not by_owner:
            stranger = next(account.id for account in self.accounts if account.id != owner)
            with pytest.raises(NotFound):
                self.do(predictions.cancel, stranger, id)
            return
        row = self.do(predictions.cancel, owner, id)
        if expected.status is S.STARTING:
            self.has_ended(expected, S.CANCELED)
        elif expected.status is S.PROCESSING:
            expected.cancel_requested = True
        assert row.status == expected.status

    @precondition(lambda self: self.expected)
    @rule(which=WHICH, lag=LAG, allows_retry=st.sampled_from([True, True, False]))
    def interrupt(self, which: int, lag: int, allows_retry: bool) -> None:
        id = self.id_of(which)
        self.do(predictions.interrupt, id, self.expected[id].attempt - lag, allows_retry)
        if lag == 0:
            self.was_interrupted(self.expected[id], allows_retry)

    @precondition(lambda self: self.expected)
    @rule(which=WHICH)
    def another_takes_it_over(self, which: int) -> None:
        """What seldom comes about by chance: a second attempt, while the first does not know that it is over."""
        id = self.id_of(which)
        self.do(predictions.interrupt, id, self.expected[id].attempt, True)
        self.was_interrupted(self.expected[id], True)
        self.start_somewhere(id)

    def was_interrupted(self, expected: Expected, allows_retry: bool) -> None:
        if expected.status is not S.PROCESSING:
            return
        untouched = not expected.produced and not expected.cancel_requested
        expected.holder = None
        if allows_retry and untouched and expected.attempt < MAX_ATTEMPTS:
            expected.status = S.STARTING
        else:
            self.has_ended(expected, S.CANCELED if expected.cancel_requested else S.FAILED)

    @rule()
    def rescue(self) -> None:
        """What the sweep does, of this machine's own predictions."""
        found = self.do(predictions.orphans, 10_000)
        orphans = {row.id: row for row in found if row.id in self.expected}
        running = {id: expected for id, expected in self.expected.items() if expected.status is S.PROCESSING}
        assert orphans.keys() == {id for id, expected in running.items() if not self.is_held(expected)}
        for id, row in orphans.items():
            self.do(predictions.interrupt, id, row.attempt, True)
            self.was_interrupted(self.expected[id], True)

    def is_held(self, expected: Expected) -> bool:
        life, container = expected.holder
        return life.current and container.status in (C.READY, C.DRAINING)

    @rule()
    def expire(self) -> None:
        self.do(unstarted.expire)
        for expected in self.expected.values():
            deadline = expected.row.deadline_at
            if expected.status is S.STARTING and deadline is not None and deadline < expected.row.created_at:
                self.has_ended(expected, S.ABORTED)

    @rule(seriously=st.sampled_from([False, False, False, True]))
    def refuse(self, seriously: bool) -> None:
        if not seriously:
            return
        waiting = [expected for expected in self.expected.values() if expected.status is S.STARTING]
        refused = self.do(unstarted.refuse, self.runnable.target, FailureCode.SETUP, "It cannot run.")
        assert refused == len(waiting)
        for expected in waiting:
            self.has_ended(expected, S.FAILED)

    def has_ended(self, expected: Expected, status: S, micros: int | None = None) -> None:
        assert (expected.status, status) in PREDICTION_EDGES
        expected.ended_waiting = expected.status is S.STARTING
        expected.status, expected.micros, expected.holder = status, micros, None
        expected.ended = self.row(expected.row.id)

    # --- what must hold ---

    @invariant()
    def every_row_is_what_the_verbs_said(self) -> None:
        rows = self.query(select(Prediction).where(Prediction.id.in_(list(getattr(self, "expected", {})))))
        for row in rows:
            expected = self.expected[row.id]
            assert row.status == expected.status
            assert row.attempt == expected.attempt <= MAX_ATTEMPTS
            assert (row.completed_at is not None) == S(row.status).is_terminal
            if expected.ended is not None:
                assert row == expected.ended, "terminal is sticky"
            else:
                life, container = expected.holder or (None, None)
                assert row.instance_id == (container and container.id)
                assert row.node_boot_id == (life and life.node.boot_id)
                assert (row.started_at is None) == (life is None)

    @invariant()
    def what_waits_is_in_its_queue_and_what_was_ended_there_is_not(self) -> None:
        expected = getattr(self, "expected", {})
        waiting = [id for id, each in expected.items() if each.status is S.STARTING]
        ended = [id for id, each in expected.items() if each.ended_waiting]
        if expected:
            asked = [(self.runnable.target, id) for id in waiting + ended]
            assert type(self).run(queue.missing(self.resources.redis, asked)) == set(ended)

    def teardown(self) -> None:
        if getattr(self, "expected", None):
            self.money_is_right()
            self.webhooks_are_owed()

    def money_is_right(self) -> None:
        measured = {id: expected for id, expected in self.expected.items() if expected.micros is not None}
        records = self.query(select(UsageRecord).where(UsageRecord.cause_id.in_(list(self.expected))))
        assert sorted(record.cause_id for record in records) == sorted(measured)
        entries = self.query(select(LedgerEntry).where(LedgerEntry.usage_record_id.in_([r.id for r in records])))
        for record in records:
            expected = measured[record.cause_id]
            price = expected.ended.price_nanos_per_second
            assert record.micros == expected.micros
            assert record.amount_nanos == amount_nanos(record.micros, price)
            assert 0 <= record.amount_nanos * MICROS_PER_SECOND <= record.micros * price
            assert record.account_id == expected.row.account_id
            sides = {e.ledger_account: e.amount_nanos for e in entries if e.usage_record_id == record.id}
            assert sides == {
                f"account:{record.account_id}": -record.amount_nanos,
                "revenue:usage": record.amount_nanos,
            }
        assert len(entries) == 2 * len(records)
        total = self.query(select(func.coalesce(func.sum(LedgerEntry.amount_nanos), 0)))
        assert total[0][0] == 0

    def webhooks_are_owed(self) -> None:
        owed = self.query(select(WebhookDelivery).where(WebhookDelivery.prediction_id.in_(list(self.expected))))
        assert sorted(delivery.prediction_id for delivery in owed) == sorted(
            id
            for id, expected in self.expected.items()
            if expected.ended is not None
            and expected.row.webhook_url
            and (expected.row.webhook_events is None or WebhookEvent.COMPLETED in expected.row.webhook_events)
        )
        assert {delivery.status for delivery in owed} <= {DeliveryStatus.PENDING}
