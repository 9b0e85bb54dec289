"""One virtual day under one policy: from event to event, with a pass of the scheduler whenever somebody rings.

A pass does what scheduler/sweeps/scale.py does with rows: asks how many each target wants, and the planner where. What
differs: who waits is looked at in each pass, whoever idles only when it may have idled for long enough.
"""

import heapq
import math
import random
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from time import thread_time

from bench.simulator.fleet import GPU_MODEL, Fleet, Instance, Target, Use
from bench.simulator.policies import Policy
from bench.simulator.traffic import Call, Model, Scale
from scheduler.autoscaling import seconds_to_boot, worth
from scheduler.placement import Held, Need, Plan, plan

#: From a bell to what its pass has written.
_WAKE_SECONDS = 0.05
#: While anybody waits, a pass is run this often whether somebody rings or not.
_PASS_SECONDS = 1.0
#: From the decision that an Instance goes until its GPUs are free.
_STOP_SECONDS = 1.0
#: How often what idles beyond its limit, or may be foretold, is looked at again.
_REVIEW_SECONDS = 10.0
#: What an idle Instance is worth is worked out anew when it has idled for so much longer, as a share and in seconds.
_WORTH_SHARE = 0.2
_LEAST_WORTH_SECONDS = 5.0
#: No two boots take the same time.
_BOOT_SPREAD = 0.1


@dataclass(slots=True)
class Outcome:
    """What became of every call, in the order in which they came; and what it took."""

    policy: str
    arrived: array = field(default_factory=lambda: array("d"))
    model: array = field(default_factory=lambda: array("l"))
    waited: array = field(default_factory=lambda: array("d"))
    unserved: int = 0
    boots: int = 0
    evictions: int = 0
    displaced: int = 0
    gpu_seconds: dict[Use, float] = field(default_factory=dict)
    plan_ms: array = field(default_factory=lambda: array("d"))
    needs: int = 0


class Simulation:
    def __init__(
        self, scale: Scale, models: list[Model], policy: Policy, seed: int, between_passes: float = _WAKE_SECONDS
    ) -> None:
        self.fleet = Fleet(scale, models, maximum=max(8, scale.gpus // 10))
        self.outcome = Outcome(policy.name)
        self._scale = scale
        self._policy = policy
        self._between = between_passes
        self._chance = random.Random(f"boots {seed}")
        self._now = 0.0
        self._order = count()
        self._events: list[tuple[float, int, Callable[..., None], tuple]] = []
        self._waiting: dict[Target, None] = {}
        self._foretold: dict[Target, None] = {}
        self._held: dict[Instance, Held] = {}
        self._idle: dict[Instance, None] = {}
        self._worth_until: dict[Instance, float] = {}
        self._passed_at = -between_passes
        self._pass_at: float | None = None

    def run(self, calls: Iterable[Call]) -> Outcome:
        self._place_fixed()
        events = self._events
        for call in calls:
            while events and events[0][0] <= call.arrived:
                self._now, _, act, arguments = heapq.heappop(events)
                act(*arguments)
            self._now = call.arrived
            self._call(call)
        return self._close()

    def _close(self) -> Outcome:
        """Whoever still waits has waited until now, at least."""
        self._now = self._scale.seconds
        for target in self._waiting:
            for arrived, _ in target.waiting:
                self._record(target, arrived)
                self.outcome.unserved += 1
        self.outcome.gpu_seconds = self.fleet.close(self._now, self._scale)
        self.outcome.boots = self.fleet.boots
        return self.outcome

    # --- what happens -------------------------------------------------------------------------------------------------

    def _call(self, call: Call) -> None:
        target = self.fleet.targets[call.model]
        target.called_at.appendleft(call.arrived)
        if self._policy.foretells:
            self._await_next(target)
        if target.idle and not target.waiting:
            self._start(next(iter(target.idle)), call.arrived, call.run_seconds)
        else:
            target.waiting.append((call.arrived, call.run_seconds))
            self._waiting[target] = None
            self._ring()

    def _start(self, instance: Instance, arrived: float, run_seconds: float) -> None:
        target = instance.target
        self._record(target, arrived)
        target.running += 1
        self._turn(instance, Use.BUSY)
        self._at(self._now + run_seconds, self._end, instance, run_seconds)

    def _end(self, instance: Instance, run_seconds: float) -> None:
        target = instance.target
        target.running -= 1
        target.runs.append(run_seconds)
        self._free(instance)

    def _ready(self, instance: Instance, seconds: float) -> None:
        instance.ready_at = self._now
        instance.target.measured_boot = seconds
        if self._policy.idle_limit(instance.target) is not None:
            self._at(self._now + _REVIEW_SECONDS, self._review, instance)
        self._free(instance)
        if self._waiting:
            self._ring()

    def _free(self, instance: Instance) -> None:
        """A slot is: for the next that waits, or for whoever comes."""
        target = instance.target
        if instance not in target.instances:
            self._turn(instance, Use.LEAVING)
            self._at(self._now + _STOP_SECONDS, self._gone, instance)
            return
        self._turn(instance, Use.IDLE)
        if target.waiting:
            self._start(instance, *target.waiting.popleft())
            if not target.waiting:
                del self._waiting[target]

    def _gone(self, instance: Instance) -> None:
        self.fleet.gone(instance, self._now)
        del self._held[instance]
        if self._waiting:
            self._ring()

    # --- a pass -------------------------------------------------------------------------------------------------------

    def _ring(self) -> None:
        if self._pass_at is None:
            self._pass_at = max(self._now + _WAKE_SECONDS, self._passed_at + self._between)
            self._at(self._pass_at, self._pass)

    def _pass(self) -> None:
        self._pass_at, self._passed_at = None, self._now
        needs = [need for target in self._waiting if (need := self._need(target)) is not None]
        needs += self._foretold_needs()
        if needs:
            needs.sort(key=self._policy.urgency, reverse=True)
            decided = self._plan(needs)
            self._apply(decided)
        if (self._waiting or self._foretold) and self._pass_at is None:
            self._pass_at = self._now + max(_PASS_SECONDS, self._between)
            self._at(self._pass_at, self._pass)

    def _plan(self, needs: list[Need]) -> Plan:
        """The real planner, and how long it took of the processor."""
        held = self._all_held()
        began = thread_time()
        decided = plan(needs, self.fleet.nodes, held)
        self.outcome.plan_ms.append((thread_time() - began) * 1000)
        self.outcome.needs += len(needs)
        return decided

    def _apply(self, decided: Plan) -> None:
        for assignment in decided.assignments:
            self._boot(self.fleet.by_name[assignment.need.target], assignment.node_id, assignment.gpu_uuids)
        for id in decided.evictions:
            self._let_go(self.fleet.instances[id])
        for id in decided.displaced:
            self._displace(self.fleet.instances[id])
        self.outcome.evictions += len(decided.evictions)
        self.outcome.displaced += len(decided.displaced)

    def _need(self, target: Target) -> Need | None:
        missing = self._policy.wanted(target, self._now) - len(target.instances)
        if missing <= 0:
            return None
        return _need(target, missing, target.oldest_wait(self._now))

    def _boot(self, target: Target, node_id: str, gpu_uuids: tuple[str, ...]) -> None:
        instance = self.fleet.boot(target, node_id, gpu_uuids, self._now)
        self._held[instance] = self._hold(instance)
        seconds = target.model.boot_seconds * self._chance.lognormvariate(0.0, _BOOT_SPREAD)
        self._at(self._now + seconds, self._ready, instance, seconds)

    def _displace(self, instance: Instance) -> None:
        """It finishes what it runs, and takes no more."""
        if instance.is_idle:
            self._let_go(instance)
        else:
            self.fleet.displace(instance)
            self._held[instance] = self._hold(instance)

    def _let_go(self, instance: Instance) -> None:
        self.fleet.let_go(instance, self._now)
        self._idle.pop(instance)
        self._worth_until.pop(instance, None)
        self._held[instance] = self._hold(instance)
        self._at(self._now + _STOP_SECONDS, self._gone, instance)

    def _all_held(self) -> list[Held]:
        if not self._policy.swaps:
            return list(self._held.values())
        for instance in self._idle:
            if self._now >= self._worth_until.get(instance, 0.0):
                self._held[instance] = self._hold(instance, is_evictable=not instance.is_pinned)
                idle = self._now - instance.since
                self._worth_until[instance] = self._now + max(idle * _WORTH_SHARE, _LEAST_WORTH_SECONDS)
        return list(self._held.values())

    def _hold(self, instance: Instance, is_evictable: bool = False) -> Held:
        age = 0.0 if instance.ready_at is None else self._now - instance.ready_at
        return Held(
            id=instance.id,
            node_id=instance.node_id,
            target=instance.target.name,
            version_id=instance.target.name,
            gpu_uuids=instance.gpu_uuids,
            evictable=is_evictable,
            idle_seconds=self._now - instance.since,
            boot_seconds=instance.target.boot_seconds if self._policy.guards_young else 0.0,
            leaving=instance not in instance.target.instances,
            displaceable=self._policy.displaces and instance.use in (Use.BUSY, Use.IDLE) and not instance.is_pinned,
            loss=self._policy.loss(instance, self._now) if is_evictable else None,
            age_seconds=age,
        )

    # --- what nobody rang for -----------------------------------------------------------------------------------------

    def _review(self, instance: Instance) -> None:
        """Whether an Instance has idled for long enough to go."""
        if instance not in instance.target.instances:
            return
        target = instance.target
        left = self._policy.idle_limit(target) - (self._now - instance.since) if instance.is_idle else _REVIEW_SECONDS
        if left <= 0.0 and not target.waiting and self._policy.wanted(target, self._now) < len(target.instances):
            self._let_go(next(iter(target.idle)))
            if not instance.is_idle:
                return
        self._at(self._now + max(left, _REVIEW_SECONDS), self._review, instance)

    def _await_next(self, target: Target) -> None:
        left = seconds_to_boot(target.boot_seconds, target.arrivals(self._now))
        if left is not None:
            self._at(self._now + max(left, 0.0), self._foretell, target, target.called_at[0])

    def _foretell(self, target: Target, called_at: float) -> None:
        """Boots for a call that is due, unless there was another one since."""
        if not target.instances and not target.waiting and target.called_at[0] == called_at:
            self._foretold[target] = None
            self._ring()

    def _foretold_needs(self) -> list[Need]:
        """Of calls that are due and have not come."""
        found = []
        for target in list(self._foretold):
            arrivals = target.arrivals(self._now)
            if target.instances or target.waiting or seconds_to_boot(target.boot_seconds, arrivals) is None:
                del self._foretold[target]
            else:
                found.append(_need(target, 1, 0.0, worth(target.boot_seconds, arrivals)))
        return found

    def _place_fixed(self) -> None:
        needs = [_need(target, 1, 0.0) for target in self._policy.begin(self.fleet)]
        for assignment in plan(needs, self.fleet.nodes, []).assignments:
            target = self.fleet.by_name[assignment.need.target]
            instance = self.fleet.boot(target, assignment.node_id, assignment.gpu_uuids, 0.0)
            instance.is_pinned = True
            self._held[instance] = self._hold(instance)
            self._turn(instance, Use.IDLE)

    # ------------------------------------------------------------------------------------------------------------------

    def _turn(self, instance: Instance, use: Use) -> None:
        was = instance.use
        self.fleet.turn(instance, use, self._now)
        if use is Use.IDLE:
            self._idle[instance] = None
        elif was is Use.IDLE:
            self._held[instance] = self._hold(instance)
            self._idle.pop(instance)
            self._worth_until.pop(instance, None)

    def _record(self, target: Target, arrived: float) -> None:
        self.outcome.arrived.append(arrived)
        self.outcome.model.append(target.number)
        self.outcome.waited.append(self._now - arrived)

    def _at(self, moment: float, act: Callable[..., None], *arguments: object) -> None:
        heapq.heappush(self._events, (moment, next(self._order), act, arguments))


def _need(target: Target, missing: int, oldest_wait: float, worth: float = math.inf) -> Need:
    return Need(
        target=target.name,
        version_id=target.name,
        artifact_kind="image",
        hardware_sku="gpu",
        missing=missing,
        waiting=len(target.waiting),
        oldest_wait=oldest_wait,
        gpu_count=target.model.gpus,
        gpu_model=GPU_MODEL,
        boot_seconds=target.boot_seconds,
        worth=worth,
    )
