"""One Instance, from boot to gone: start its container, give it predictions while it is ready, drain it, remove it.

The scheduler's wish arrives as `drain`; everything else it finds out by looking. Its row says `stopped` or `failed`
only once the container is gone, because that is when its GPUs are free.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import aiohttp
from redis.exceptions import RedisError
from sqlalchemy import Row
from sqlalchemy.exc import SQLAlchemyError

from core import fleet, predictions, queue
from core.clock import monotonic
from core.errors import MillraceError
from core.lifecycle import FailureCode, InstanceStatus
from core.log import get_logger
from core.predictions import Outcome
from core.resources import Resources
from core.schema import output_kind, output_schema
from core.usage import instance_time
from core.usage.instance_time import Counters
from worker.cog import CogContainer, Health, SetupFailed, wants_files_inline
from worker.endpoint import Endpoint
from worker.inputs import InputFiles
from worker.outputs import OutputFiles
from worker.runner import Runner, Seat
from worker.runtimes.base import Artifact, ArtifactUnavailable, Container, ContainerSpec, Runtime
from worker.stopwatch import Stopwatch

log = get_logger()

#: How often a container is looked at; a lost one is usually noticed by its predictions first.
_WATCH_SECONDS = 1.0
#: An adopted container is looked at this often until it is idle.
_LOOK_SECONDS = 0.1
#: A container gets this long to exit by itself before it is killed.
_STOP_GRACE_SECONDS = 5.0
#: After Redis or Postgres failed to answer, the next try.
_RETRY_SECONDS = 0.5
#: Predictions of a container that died learn it from their connection; then its end is written down.
_SETTLE_AFTER_LOSS_SECONDS = 10.0


class ContainerLost(Exception):
    """The container is gone, or not worth keeping; the message says why."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all Instances of a node share."""

    resources: Resources
    boot_id: str
    http: aiohttp.ClientSession
    inputs: InputFiles
    outputs: OutputFiles


@dataclass(frozen=True, slots=True)
class Place:
    """A runtime of this node, and the endpoint that its containers call."""

    runtime: Runtime
    endpoint: Endpoint


class InstanceSupervisor:
    def __init__(self, row: Row, version: Row, place: Place, around: Surroundings) -> None:
        self.id: str = row.id
        self.target: str = row.target
        self.gpu_uuids: tuple[str, ...] = tuple(row.gpu_uuids)
        self.runners: dict[str, Runner] = {}
        self._row = row
        self._version = version
        self._runtime = place.runtime
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
        self._container: Container | None = None
        self._cog: CogContainer | None = None
        counted = Counters(row.setup_micros, row.idle_micros, row.active_micros)
        self._stopwatch = Stopwatch(monotonic, counted)

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
            status = await (self._adopt(adopted, status) if adopted else self._boot())
            await self._serve()
            await self._move(status, InstanceStatus.DRAINING)
            status = InstanceStatus.DRAINING
            await self._finish_running()
        except (ContainerLost, SetupFailed, ArtifactUnavailable, MillraceError) as error:
            await self._fail(str(error))
        else:
            await self._remove_container()
            await self._move(status, InstanceStatus.STOPPED)
        finally:
            self._endpoint.forget(self.id)

    # --- boot ---

    async def _boot(self) -> InstanceStatus:
        await self._move(InstanceStatus.PENDING, InstanceStatus.STARTING)
        began = monotonic()
        artifact = artifact_of(self._version)
        await self._runtime.ensure(artifact)
        self._container = await self._runtime.start(self._spec(artifact))
        self._stopwatch.set_up()
        self._cog = self._client(self._container)
        health = await self._cog.wait_until_ready(self._version.setup_timeout_seconds, self._exit_reason)
        self._stopwatch.ready()
        await self._move(
            InstanceStatus.STARTING,
            InstanceStatus.READY,
            setup_logs=health.setup_logs or await self._runtime.logs(self._container),
            setup_seconds=monotonic() - began,
        )
        return InstanceStatus.READY

    async def _adopt(self, container: Container, status: InstanceStatus) -> InstanceStatus:
        """Takes over the container that an earlier life of this node left behind, once it is idle again."""
        self._container, self._cog = container, self._client(container)
        grace = self._around.resources.settings.cancel_grace_seconds
        if status not in (InstanceStatus.STARTING, InstanceStatus.READY):
            raise ContainerLost("Its node restarted while it was stopping.")
        if status is InstanceStatus.STARTING:
            self._stopwatch.set_up()
        timeout = self._version.setup_timeout_seconds if status is InstanceStatus.STARTING else grace
        health = await self._cog.wait_until_ready(timeout, self._exit_reason)
        self._stopwatch.ready()
        await self._until_idle(health, grace)
        if status is InstanceStatus.STARTING:
            await self._move(status, InstanceStatus.READY, setup_logs=health.setup_logs)
        return InstanceStatus.READY

    async def _until_idle(self, health: Health, seconds: float) -> None:
        """Losing its node cancels what a container ran; one that does not heed that is in nobody's hands."""
        deadline = monotonic() + seconds
        while health.status == "busy":
            if monotonic() > deadline:
                raise ContainerLost("Its node restarted, and it still ran what it had been given before.")
            await asyncio.sleep(_LOOK_SECONDS)
            health = await self._cog.health()

    def _spec(self, artifact: Artifact) -> ContainerSpec:
        return ContainerSpec(
            instance_id=self.id,
            version_id=self._version.id,
            artifact=artifact,
            slots=self._row.slots,
            upload_url=self._upload_url(),
            gpu_uuids=self.gpu_uuids,
            setup_timeout_seconds=self._version.setup_timeout_seconds,
        )

    def _upload_url(self) -> str | None:
        if wants_files_inline(self._version.cog_version, output_schema(self._version.openapi_schema)):
            return None
        return self._endpoint.upload_url(self.id)

    def _client(self, container: Container) -> CogContainer:
        return CogContainer(
            container.base_url,
            session=self._around.http,
            hooks=self._endpoint.inbox(self.id),
            slots=self._row.slots,
            output_schema=output_schema(self._version.openapi_schema),
        )

    async def _exit_reason(self) -> str | None:
        ended = await self._runtime.exited(self._container)
        return ended and ended.reason

    # --- serving ---

    async def _serve(self) -> None:
        """Until `drain`. Raises `ContainerLost`."""
        seat = Seat(
            instance_id=self.id,
            boot_id=self._around.boot_id,
            version=self._version,
            output_kind=output_kind(self._version.openapi_schema),
            container=self._cog,
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
        """Looks for a container that died, or no longer works, while nobody was talking to it."""
        while not self._lost.done():
            await asyncio.sleep(_WATCH_SECONDS)
            try:
                reason = await self._exit_reason()
            except MillraceError as error:
                log.warning("container not looked at, will try again", instance=self.id, error=str(error))
                continue
            if reason is None and not self.runners:
                health = await self._cog.health()
                reason = health.error or "It reports itself broken." if health.recycle else None
            if reason is not None:
                self._lose(reason)

    def _lose(self, reason: str) -> None:
        if not self._lost.done():
            self._lost.set_result(reason)

    async def _kill(self, prediction_id: str) -> None:
        """Ends the container because this prediction ignores its cancel; neighbours in other slots run once more."""
        self._killed_for = self._killed_for or prediction_id
        self._lose(f"Prediction {prediction_id} did not stop when asked to.")
        await self._runtime.stop(self._container, grace_seconds=0)

    # --- the end ---

    async def _finish_running(self) -> None:
        while self._tasks:
            await asyncio.wait([*self._tasks, self._lost], return_when=asyncio.FIRST_COMPLETED)
            if self._lost.done():
                raise ContainerLost(self._lost.result())

    async def _fail(self, reason: str) -> None:
        log.warning("instance failed", instance=self.id, target=self.target, reason=reason)
        logs = await self._runtime.logs(self._container) if self._container else ""
        await self._remove_container()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_SETTLE_AFTER_LOSS_SECONDS)
        values: dict[str, Any] = {"reason": reason}
        if logs:
            values["setup_logs"] = logs
        for status in (InstanceStatus.STARTING, InstanceStatus.READY, InstanceStatus.DRAINING, InstanceStatus.PENDING):
            if await self._move(status, InstanceStatus.FAILED, **values):
                return

    async def _remove_container(self) -> None:
        self._stopwatch.stop()
        if self._container is not None:
            await self._runtime.stop(self._container, grace_seconds=_STOP_GRACE_SECONDS)

    async def _move(self, old: InstanceStatus, new: InstanceStatus, **values: Any) -> bool:
        """Writes the observed state, for as long as it takes Postgres to answer; with the last one, all its time."""
        while True:
            try:
                async with self._database.transaction() as tx:
                    if new.is_terminal:
                        await instance_time.report(tx, {self.id: self.times()})
                    return await fleet.move_instance(tx, self.id, old, new, **values)
            except SQLAlchemyError as error:
                log.warning("instance state not written, will try again", instance=self.id, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)


def artifact_of(version: Row) -> Artifact:
    return Artifact(version.artifact_kind, version.artifact, version.config, version.openapi_schema or {})
