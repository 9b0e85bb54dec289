"""One Instance, from boot to gone: start its container, give it predictions while it is ready, drain it, remove it.

The scheduler's wish arrives as `drain`; everything else it finds out by looking. Its row says `stopped` or `failed`
only once the container is gone, because that is when its GPUs are free.
"""

import asyncio
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import Row
from sqlalchemy.exc import SQLAlchemyError

from core import predictions, queue
from core.clock import monotonic
from core.errors import MillraceError
from core.lifecycle import FailureCode, InstanceStatus
from core.log import get_logger
from core.predictions import Outcome
from core.schema import output_kind
from core.usage.instance_time import Counters
from worker.booting import Boot
from worker.cog import SetupFailed
from worker.observed import ObservedState
from worker.place import ContainerLost, Place, Surroundings
from worker.runner import Runner, Seat
from worker.runtimes.base import ArtifactUnavailable, Container
from worker.stopwatch import Stopwatch
from worker.watching import until_lost

log = get_logger()

#: A container gets this long to exit by itself before it is killed.
_STOP_GRACE_SECONDS = 5.0
#: After Redis failed to answer, the next try.
_RETRY_SECONDS = 0.5
#: Predictions of a container that died learn it from their connection; then its end is written down.
_SETTLE_AFTER_LOSS_SECONDS = 10.0


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
        self._free = row.slots
        self._slot_freed = asyncio.Event()
        self._tasks: set[asyncio.Task] = set()
        self._drain = asyncio.Event()
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._has_worked = False
        self._killed_for: str | None = None
        counted = Counters(row.setup_micros, row.idle_micros, row.active_micros)
        self._stopwatch = Stopwatch(monotonic, counted)
        self._observed = ObservedState(self._database, self.id, self.times)
        self._boot = Boot(row, version, place, around, self._observed, self._stopwatch)

    # --- what the node asks of it ---

    def drain(self) -> None:
        """Take nothing new, finish what runs, then stop."""
        self._drain.set()

    def run_out_of_money(self) -> None:
        """Nobody pays for what runs any more."""
        for runner in list(self.runners.values()):
            if runner.row is not None:
                runner.cancel(FailureCode.INSUFFICIENT_FUNDS)

    def times(self) -> Counters:
        """How long it has been in each phase, all its lives together."""
        return self._stopwatch.read()

    async def hand_over(self) -> None:
        """The node is leaving: what still runs goes back to the queue, or fails where that cannot be."""
        for runner in list(self.runners.values()):
            if runner.row is not None:
                await self._interrupt(runner)

    def worked_lately(self) -> bool:
        """Whether it runs something, or has since this was asked last: an idle time is counted from there."""
        worked, self._has_worked = self._has_worked or bool(self.runners), False
        return worked

    async def run(self, adopted: Container | None = None) -> None:
        """The whole life. Never raises for anything that the container, or its artifact, does."""
        status = InstanceStatus(self._row.status)
        try:
            await (self._boot.adopt(adopted, status) if adopted else self._boot.start())
            await self._serve()
            await self._observed.move(InstanceStatus.READY, InstanceStatus.DRAINING)
            await self._finish_running()
        except (ContainerLost, SetupFailed, ArtifactUnavailable, MillraceError) as error:
            await self._fail(str(error))
        else:
            await self._remove_container()
            await self._observed.move(InstanceStatus.DRAINING, InstanceStatus.STOPPED)
        finally:
            self._endpoint.forget(self.id)

    # --- serving ---

    async def _serve(self) -> None:
        """Until `drain`. Raises `ContainerLost`."""
        seat = Seat(
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
        taking = asyncio.create_task(self._take_predictions(seat))
        watching = asyncio.create_task(self._watch())
        draining = asyncio.create_task(self._drain.wait())
        try:
            done, _ = await asyncio.wait([taking, watching, draining, self._lost], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (taking, watching, draining):
                task.cancel()
            await asyncio.wait([taking, watching, draining])
        if self._lost.done():
            raise ContainerLost(self._lost.result())
        for task in done - {draining}:
            task.result()

    async def _take_predictions(self, seat: Seat) -> None:
        announced = 0.0
        while True:
            try:
                if monotonic() - announced > queue.SERVING_SECONDS / 3:
                    await queue.announce(self._redis, self.target)
                    announced = monotonic()
                if not self._free:
                    self._slot_freed.clear()
                    await self._slot_freed.wait()
                wanted = self._free
                ids = await queue.take(self._redis, self.target, wanted)
                for id in ids:
                    if id not in self.runners:  # Queued again while its start was under way.
                        self._run(Runner(self._around.resources, seat, id))
                # Fewer than wanted: the queue is empty, and rings when it is not.
                if len(ids) < wanted:
                    await queue.wait(self._redis, self.target)
            except (RedisError, OSError) as error:
                log.warning("queue not answering", target=self.target, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    def _run(self, runner: Runner) -> None:
        self._free -= 1
        self._has_worked = True
        self.runners[runner.prediction_id] = runner
        task = asyncio.create_task(self._run_one(runner))
        self._tasks.add(task)
        task.add_done_callback(self._ran)

    def _ran(self, task: asyncio.Task) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a run broke", instance=self.id, exc_info=task.exception())

    async def _run_one(self, runner: Runner) -> None:
        id = runner.prediction_id
        try:
            outcome, container_lost = await self._drive(runner)
            if container_lost:
                self._lose(outcome.error or "The container was lost.")
            if container_lost and (self._killed_for not in (None, id) or not runner.was_taken):
                await self._interrupt(runner)
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
            if await runner.start() is None:
                return None, False
            with self._stopwatch.running():
                return await runner.drive()
        finally:
            self._free += 1
            self._slot_freed.set()

    async def _interrupt(self, runner: Runner) -> None:
        async with self._database.transaction() as tx:
            await predictions.interrupt(tx, runner.prediction_id, runner.row.attempt, self._version.allows_retry)

    async def _watch(self) -> None:
        self._lose(await until_lost(self.id, self._boot.cog, self._boot.exit_reason, lambda: not self.runners))

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
        log.warning("instance failed", instance=self.id, target=self.target, reason=reason)
        logs = await self._boot.logs()
        await self._remove_container()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_SETTLE_AFTER_LOSS_SECONDS)
        values: dict[str, Any] = {"reason": reason}
        if logs:
            values["setup_logs"] = logs
        for status in (InstanceStatus.STARTING, InstanceStatus.READY, InstanceStatus.DRAINING, InstanceStatus.PENDING):
            if await self._observed.move(status, InstanceStatus.FAILED, **values):
                return

    async def _remove_container(self) -> None:
        self._stopwatch.stop()
        await self._boot.remove(_STOP_GRACE_SECONDS)
