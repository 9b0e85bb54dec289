"""One Instance, from boot to gone: start its container, give it predictions while it is ready, drain it, remove it.

The scheduler's wish arrives as `drain`; everything else it finds out by looking. Its row says `stopped` or `failed`
only once the container is gone, because that is when its GPUs are free.
"""

import asyncio
import os
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import Row
from sqlalchemy.exc import SQLAlchemyError

from core import events, predictions, queue
from core.clock import monotonic
from core.errors import MillraceError
from core.lifecycle import FailureCode, InstanceStatus, PredictionStatus
from core.log import get_logger
from core.money.pricing import MICROS_PER_SECOND
from core.predictions import Outcome
from core.schema import output_kind
from core.usage.instance_time import Counters
from worker.booting import Boot, CalledOff
from worker.cog import SetupFailed, TurnMissed
from worker.observed import ObservedState
from worker.pace import Pace
from worker.place import ContainerLost, Place, Surroundings
from worker.runner import Runner, Seat
from worker.runtimes.base import ArtifactUnavailable, Container
from worker.stopwatch import Stopwatch
from worker.taking import Taking
from worker.watching import until_lost

log = get_logger()

#: A container gets this long to exit by itself before it is killed.
_STOP_GRACE_SECONDS = 5.0
#: After Postgres failed to answer, the next try.
_RETRY_SECONDS = 0.5
#: Predictions of a container that died learn it from their connection; then its end is written down.
_SETTLE_AFTER_LOSS_SECONDS = 10.0
#: When another program takes over: to finish storing a chunk, or writing an end.
_LEAVE_SECONDS = 10.0
_LOOK_SECONDS = 0.02


class InstanceSupervisor:
    def __init__(self, row: Row, version: Row, place: Place, around: Surroundings) -> None:
        self.id: str = row.id
        self.target: str = row.target
        self.gpu_uuids: tuple[str, ...] = tuple(row.gpu_uuids)
        self.runners: dict[str, Runner] = {}
        self._row = row
        self._version = version
        self._endpoint = place.endpoint
        self._around = around
        self._database = around.resources.database
        self._redis = around.resources.redis
        self._actor = events.node(around.resources.settings.node)
        self._pace = Pace()
        self._taking = Taking(self._redis, row.target, row.slots, self._begin, self._takes_ahead)
        self._tasks: dict[asyncio.Task, Runner] = {}
        self._life: asyncio.Task | None = None
        self._is_up = self._leaves = self._ends = False
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._has_worked = False
        self._killed_for: str | None = None
        counted = Counters(row.setup_micros, row.idle_micros, row.active_micros)
        self._stopwatch = Stopwatch(monotonic, counted)
        self._observed = ObservedState(self._database, self.id, self.times)
        self._boot = Boot(row, version, place, around, self._observed, self._stopwatch)

    # --- what the node asks of it ---

    def drain(self) -> None:
        """Take nothing new, finish what runs, then stop; what is not up yet need not come up."""
        self._taking.stop()
        self._boot.call_off()

    def run_out_of_money(self) -> None:
        """Nobody pays for what runs any more."""
        for runner in list(self.runners.values()):
            if runner.row is not None:
                runner.cancel(FailureCode.INSUFFICIENT_FUNDS)

    def times(self) -> Counters:
        """How long it has been in each phase, all its lives together."""
        return self._stopwatch.read()

    async def give_up(self) -> None:
        """The time to finish is over: what still runs goes back to the queue, or fails where that cannot be."""
        for task, runner in [*self._tasks.items()]:
            if runner.row is not None and runner.outcome is None:
                # Its container hears of it, and nothing more is heard from there.
                task.cancel()
                await asyncio.wait([task])
                await self._interrupt(runner, "its time to finish was over")

    def worked_lately(self) -> bool:
        """Whether it runs something, or has since this was asked last: an idle time is counted from there."""
        worked, self._has_worked = self._has_worked or bool(self.runners), False
        return worked

    async def run(self, adopted: Container | None = None) -> None:
        """The whole life, or what is left of it after `resume`. Never raises for anything that the container, or its
        artifact, does."""
        status = InstanceStatus(self._row.status)
        self._life = asyncio.current_task()
        try:
            if not self._is_up:
                await (self._boot.adopt(adopted, status) if adopted else self._boot.start())
                self._is_up = True
            if status is not InstanceStatus.DRAINING:
                await self._serve()
                await self._unless_leaving()
                await self._observed.move(InstanceStatus.READY, InstanceStatus.DRAINING)
            await self._finish_running()
            await self._unless_leaving()
        except CalledOff:
            await self._remove_container()
            await self._observed.move(InstanceStatus.STARTING, InstanceStatus.STOPPED)
        except (ContainerLost, SetupFailed, ArtifactUnavailable, MillraceError) as error:
            await self._fail(str(error))
        else:
            await self._remove_container()
            await self._observed.move(InstanceStatus.DRAINING, InstanceStatus.STOPPED)
        finally:
            self._endpoint.forget(self.id)

    # --- from one program to the next ---

    async def halt(self) -> None:
        """Takes nothing new and leaves everything as it is; what runs goes on."""
        self._leaves = True
        await self._taking.stopped()

    async def leave(self) -> dict[str, Any] | None:
        """After `halt`: lets go of a container that is up, without it noticing; returns what `resume` needs. None: the
        next program is to look at what there is, as if nobody had been here."""
        if self._life is None:
            return None
        if self._boot.container is None:
            # Whatever makes its artifact ready is ended with it.
            self._life.cancel()
        if self._boot.container is None or self._ends:
            await asyncio.wait([self._life], timeout=_LEAVE_SECONDS)
            return None
        if not self._is_up:
            return None
        runs = {runner.prediction_id: await runner.kept() for runner in await self._stand_still()}
        return {"manners": self._boot.cog.manners, "stopwatch": self._stopwatch.state, "runs": runs}

    async def _stand_still(self) -> list[Runner]:
        """Those that have not ended. What can neither stand still nor end is given up by the next program."""
        deadline = monotonic() + _LEAVE_SECONDS
        while moving := {task: runner for task, runner in self._tasks.items() if not runner.left.is_set()}:
            self._boot.cog.leave()
            if monotonic() > deadline:
                log.warning("runs do not stand still", instance=self.id, count=len(moving))
                break
            await asyncio.sleep(_LOOK_SECONDS)
        for task in moving:
            task.cancel()
            await asyncio.wait([task])
        still = [runner for runner in self._tasks.values() if runner.left.is_set()]
        return still + [runner for runner in moving.values() if runner.outcome is not None]

    async def _unless_leaving(self) -> None:
        """What comes next is for another program to do."""
        if self._leaves:
            await asyncio.get_running_loop().create_future()

    async def resume(self, container: Container, kept: dict[str, Any]) -> None:
        """Takes over what `leave` has let go of; then `run` goes on."""
        self._boot.resume(container, kept["manners"])
        self._stopwatch.resume(kept["stopwatch"])
        # Those that are in the container have their turn before those that wait for one.
        for id, run in sorted(kept["runs"].items(), key=lambda item: "call" not in item[1]):
            runner = Runner(self._around.resources, self._seat(), id)
            row = await self._find(id)
            if row is not None and runner.resume(row, run):
                self._run(runner)
            else:
                log.warning("not gone on with: it is not ours any more", prediction=id)
                await self._hang_up(id, run)
        # Until each has counted itself in.
        await asyncio.sleep(0)
        self._stopwatch.ready()
        self._is_up = True

    async def _find(self, prediction_id: str) -> Row | None:
        """None: it is not ours any more."""
        while True:
            try:
                async with self._database.autocommit() as tx:
                    row = await predictions.find(tx, prediction_id)
            except SQLAlchemyError as error:
                log.warning("prediction not found, will try again", prediction=prediction_id, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            runs = row is not None and row.status == PredictionStatus.PROCESSING
            return row if runs and row.node_boot_id == self._around.boot_id else None

    async def _hang_up(self, prediction_id: str, run: dict[str, Any]) -> None:
        """Newer Cog cancels what nobody listens to, older Cog what it is told to."""
        if (line := run.get("call") and run["call"]["line"]) is not None:
            os.close(line["fd"])
        await self._boot.cog.cancel(prediction_id)

    # --- serving ---

    async def _serve(self) -> None:
        """Until `drain`. Raises `ContainerLost`."""
        taking, watching = asyncio.create_task(self._taking.run()), asyncio.create_task(self._watch())
        try:
            await asyncio.wait([taking, watching, self._lost], return_when=asyncio.FIRST_COMPLETED)
        finally:
            watching.cancel()
            await self._taking.stopped()
            await asyncio.wait([taking, watching])
            await self._withdraw()
        if self._lost.done():
            raise ContainerLost(self._lost.result())
        for task in (taking, watching):
            if not task.cancelled():
                task.result()

    async def _withdraw(self) -> None:
        """What comes from now on wakes the scheduler."""
        if self._leaves:
            return
        try:
            await queue.withdraw(self._redis, self.target)
        except (RedisError, OSError) as error:
            log.warning("not withdrawn, the scheduler finds it at its next look", target=self.target, error=str(error))

    def _seat(self) -> Seat:
        return Seat(
            instance_id=self.id,
            boot_id=self._around.boot_id,
            version=self._version,
            output_kind=output_kind(self._version.openapi_schema),
            container=self._boot.cog,
            inputs=self._around.inputs,
            input_url=self._endpoint.input_url,
            outputs=self._around.outputs,
            kill=self._kill,
        )

    def _begin(self, prediction_id: str) -> None:
        if prediction_id not in self.runners:  # Queued again while its start was under way.
            self._run(Runner(self._around.resources, self._seat(), prediction_id))

    def _takes_ahead(self) -> bool:
        """Several slots keep the container at work between two runs of one of them. What may not run again is not
        promised to a container that may end before its turn."""
        return self._row.slots == 1 and self._version.allows_retry and self._pace.is_quick

    def _run(self, runner: Runner) -> None:
        self._taking.free -= 1
        self._has_worked = True
        self.runners[runner.prediction_id] = runner
        task = asyncio.create_task(self._run_one(runner))
        self._tasks[task] = runner
        task.add_done_callback(self._ran)

    def _ran(self, task: asyncio.Task) -> None:
        del self._tasks[task]
        if not task.cancelled() and task.exception() is not None:
            log.error("a run broke", instance=self.id, exc_info=task.exception())

    async def _run_one(self, runner: Runner) -> None:
        id = runner.prediction_id
        try:
            outcome, container_lost = await self._drive(runner)
            if container_lost:
                self._lose(outcome.error or "The container was lost.")
            if container_lost and (self._killed_for not in (None, id) or not runner.was_taken):
                await self._interrupt(runner, "its container ended for another reason")
            elif outcome is not None:
                await runner.settle(outcome)
        except SQLAlchemyError as error:
            # Started or not: if the row says so, the node finds that nobody runs it.
            log.warning("prediction given up", prediction=id, error=str(error))
        finally:
            del self.runners[id]

    async def _drive(self, runner: Runner) -> tuple[Outcome | None, bool]:
        """The slot is free for the next one while this one's end is still being written."""
        try:
            if runner.outcome is not None:
                return runner.outcome, False
            if runner.row is None and await runner.start() is None:
                return None, False
            with self._stopwatch.running():
                outcome, container_lost = await runner.drive()
            if outcome.micros is not None:
                self._pace.note(outcome.micros / MICROS_PER_SECOND)
            return outcome, container_lost
        except TurnMissed as missed:
            self._pace.note(missed.seconds)
            await self._interrupt(runner, "the one before it took longer than usual")
            return None, False
        finally:
            self._taking.freed()

    async def _interrupt(self, runner: Runner, reason: str) -> None:
        values = (runner.prediction_id, runner.row.attempt, self._version.allows_retry)
        async with self._database.transaction() as tx:
            has_begun = runner.has_begun
            await predictions.interrupt(tx, *values, actor=self._actor, reason=reason, has_begun=has_begun)

    async def _watch(self) -> None:
        self._lose(await until_lost(self.id, self._boot, lambda: not self.runners))

    def _lose(self, reason: str) -> None:
        if not self._lost.done():
            self._lost.set_result(reason)

    async def _kill(self, prediction_id: str) -> None:
        """Ends the container because this prediction ignores its cancel; neighbours in other slots run once more."""
        self._killed_for = self._killed_for or prediction_id
        self._lose(f"Prediction {prediction_id} did not stop when asked to.")
        await self._boot.remove(grace_seconds=0)

    # --- the end ---

    async def _finish_running(self) -> None:
        while self._tasks:
            await asyncio.wait([*self._tasks, self._lost], return_when=asyncio.FIRST_COMPLETED)
            if self._lost.done():
                raise ContainerLost(self._lost.result())

    async def _fail(self, reason: str) -> None:
        self._ends = True
        log.warning("instance failed", instance=self.id, target=self.target, reason=reason)
        logs = await self._boot.logs()
        await self._remove_container()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_SETTLE_AFTER_LOSS_SECONDS)
        values: dict[str, Any] = {"reason": reason}
        if logs:
            values["setup_logs"] = logs
        if self._killed_for is not None:
            # We ended it ourselves, which is no sign that the next one will not stay.
            values["is_wanted"] = False
        for status in (InstanceStatus.STARTING, InstanceStatus.READY, InstanceStatus.DRAINING, InstanceStatus.PENDING):
            if await self._observed.move(status, InstanceStatus.FAILED, **values):
                return

    async def _remove_container(self) -> None:
        self._ends = True
        self._stopwatch.stop()
        await self._boot.remove(_STOP_GRACE_SECONDS)
