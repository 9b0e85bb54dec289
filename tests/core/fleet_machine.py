"""The lives of Instances beside those of predictions and nodes: wanted, booting, ready, draining, gone, in any order.

To what `prediction_machine` does it adds the verbs of the scheduler, of nodes and of operators, each at any moment,
with states that may have been overtaken. What they tell as events must be what the rows went through.
"""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from sqlalchemy import select

from core import events, fleet, predictions, timeline, upkeep
from core.errors import StaleWrite
from core.lifecycle import INSTANCE_EDGES, LIVE_INSTANCE, PREDICTION_EDGES, InstanceStatus, PredictionStatus
from core.predictions import Outcome
from core.tables import Instance, Node
from tests.core.prediction_machine import WHICH, Container, PredictionMachine
from tests.support.factories import LEASE_SECONDS

C = InstanceStatus
EDGES = st.sampled_from(sorted(INSTANCE_EDGES))
#: Far enough apart that no step takes as long.
ALLOWANCES = st.sampled_from([100.0, 100_000.0])
MAX_CONTAINERS = 8


class FleetMachine(PredictionMachine):
    def container_of(self, which: int) -> Container:
        """One of the last ones, the newest first."""
        return self.containers[-1 - which % min(4, len(self.containers))]

    # --- the scheduler ---

    @precondition(lambda self: len(self.containers) < MAX_CONTAINERS)
    @rule(which=WHICH)
    def another_is_wanted(self, which: int) -> None:
        runnable, node = self.runnable, self.life_of(which).node
        id = self.do(
            fleet.assign,
            node_id=node.id,
            target=runnable.target,
            version_id=runnable.version_id,
            hardware_sku=runnable.hardware_sku,
            slots=1,
            gpu_uuids=(),
        )
        self.containers.append(Container(id, node.id, C.PENDING))

    @rule(which=WHICH)
    def one_is_no_longer_wanted(self, which: int) -> None:
        container = self.container_of(which)
        self.do(fleet.unwant, container.id, "Idle.")
        container.wanted = container.wanted and container.status.is_terminal

    @rule(which=WHICH, seconds=ALLOWANCES)
    def one_is_to_be_gone_within(self, which: int, seconds: float) -> None:
        """It is never given longer than it has."""
        container = self.container_of(which)
        drains = self.do(fleet.drain_instance, container.id, seconds, "Its node is emptied.")
        is_sooner = container.drains_within is None or seconds < container.drains_within
        assert drains == (container.status in LIVE_INSTANCE and (container.wanted or is_sooner))
        if drains:
            container.wanted, container.drains_within = False, seconds

    # --- nodes ---

    @rule(which=WHICH, edge=EDGES)
    def a_node_says_that_it_moved(self, which: int, edge: tuple[C, C]) -> None:
        """It may have been overtaken: by its own death, most of all."""
        self.move(self.container_of(which), *edge)

    @rule(which=WHICH, fails=st.sampled_from([False, False, False, True]))
    def a_container_goes_on(self, which: int, fails: bool) -> None:
        """What seldom comes about by chance: the next step of its life."""
        container = self.container_of(which)
        steps = [new for old, new in INSTANCE_EDGES if old is container.status and (new is C.FAILED) == fails]
        if steps:
            self.move(container, container.status, steps[0])

    def move(self, container: Container, old: C, new: C) -> None:
        values = {"reason": "It exited with 1."} if new is C.FAILED else {}
        assert self.do(fleet.move_instance, container.id, old, new, **values) == (container.status is old)
        if container.status is old:
            container.status = new

    @precondition(lambda self: self.expected)
    @rule(id=WHICH, life=WHICH, container=WHICH)
    def start_anywhere(self, id: int, life: int, container: int) -> None:
        """A life that adopts the container of an earlier one, a node for another one, one that is not ready."""
        self.start_on(self.id_of(id), self.life_of(life), self.container_of(container))

    # --- operators ---

    @rule(which=WHICH, on=st.booleans())
    def an_operator_cordons(self, which: int, on: bool) -> None:
        node = self.life_of(which).node
        self.do(upkeep.cordon, node.name, on, "operator")
        assert self.node(node.id).is_cordoned == on

    @rule(which=WHICH, on=st.booleans())
    def an_operator_drains(self, which: int, on: bool) -> None:
        node = self.life_of(which).node
        if on:
            self.do(upkeep.drain_node, node.name, 60.0, "operator")
        else:
            self.do(upkeep.undrain_node, node.name, "operator")
        assert (self.node(node.id).drain_deadline_at is not None) == on

    def node(self, id: str) -> Any:
        return self.query(select(Node).where(Node.id == id))[0]

    # --- what must be refused ---

    @rule()
    def whatever_is_wrong_is_refused(self) -> None:
        """All of it that could be tried at this moment: chance alone tries little."""
        live = [id for id, expected in self.expected.items() if expected.ended is None]
        for id in [*live, *[id for id in self.expected if id not in live][-1:]]:
            self.starts_nowhere_else(id)
            self.starts_not_without_a_lease(id)
            self.is_written_by_no_other_attempt(id)
        for container in self.containers[-2:]:
            for old, new in INSTANCE_EDGES:
                if old is not container.status:
                    self.move(container, old, new)
        for life in self.all_lives:
            if not life.current:
                assert not self.do(fleet.heartbeat, life.node.id, life.node.boot_id, [], LEASE_SECONDS)

    def starts_nowhere_else(self, id: str) -> None:
        for life in self.all_lives[-3:]:
            for container in self.containers[-3:]:
                if self.expected[id].status is not PredictionStatus.STARTING or not life.may_start(container):
                    self.start_on(id, life, container)

    def starts_not_without_a_lease(self, id: str) -> None:
        """Where all else is as it should be."""
        life = next((life for life in self.all_lives if life.may_start(life.container)), None)
        if life is not None:
            self.do(fleet.release_lease, life.node.id, life.node.boot_id)
            life.leased = False
            self.start_on(id, life, life.container)
            life.leased = self.do(fleet.heartbeat, life.node.id, life.node.boot_id, [], LEASE_SECONDS)
            assert life.leased

    def is_written_by_no_other_attempt(self, id: str) -> None:
        attempt, runs = self.expected[id].attempt, self.expected[id].status is PredictionStatus.PROCESSING
        for other in {attempt - 1, attempt, attempt + 1} - ({attempt} if runs else set()):
            assert not self.do(predictions.append, id, other, ["late"], "late\n")
            self.do(predictions.interrupt, id, other, True)
            with pytest.raises(StaleWrite):
                self.do(predictions.finish, id, other, Outcome(PredictionStatus.SUCCEEDED, output="late", micros=1))

    # --- what must hold ---

    @invariant()
    def every_container_is_what_the_verbs_said(self) -> None:
        containers = {container.id: container for container in getattr(self, "containers", ())}
        for row in self.query(select(Instance).where(Instance.id.in_(containers))):
            container = containers[row.id]
            assert (row.status, row.is_wanted) == (container.status, container.wanted)
            assert (row.ended_at is not None) == container.status.is_terminal
            assert (row.drain_deadline_at is not None) == (container.drains_within is not None)
            assert row.ready_at is not None or container.status not in (C.READY, C.DRAINING)

    def teardown(self) -> None:
        if hasattr(self, "expected"):
            self.whatever_is_wrong_is_refused()
        super().teardown()
        for container in getattr(self, "containers", ()):
            self.its_events_are_its_life(container)
        for id in getattr(self, "expected", ()):
            self.its_timeline_is_its_life(id)

    def its_events_are_its_life(self, container: Container) -> None:
        told = self.do(events.of, events.instance(container.id))
        states = [(event.was, event.becomes) for event in told if event.becomes]
        assert states[0] == (None, C.PENDING)
        assert all(before[1] == after[0] and after in INSTANCE_EDGES for before, after in pairwise(states))
        assert states[-1][1] == container.status
        assert any(event.reason.startswith("No longer wanted.") for event in told if event.reason) != container.wanted

    def its_timeline_is_its_life(self, id: str) -> None:
        row = self.row(id)
        entries = self.do(timeline.of, row)
        states = [(entry.was, entry.becomes) for entry in entries if entry.subject == "prediction" and entry.becomes]
        assert states[0] == (None, PredictionStatus.STARTING)
        assert all(before[1] == after[0] and after in PREDICTION_EDGES for before, after in pairwise(states))
        assert states[-1][1] == row.status
        assert sum(becomes == PredictionStatus.PROCESSING for _, becomes in states) == row.attempt
        assert all(before.at <= after.at for before, after in pairwise(entries))
        assert not [entry for entry in entries if entry.actor.startswith("node:")], (
            "machines are not its owner's to know"
        )
        assert self.do(predictions.find, id) == row, "telling changes nothing"
