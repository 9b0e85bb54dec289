"""The node: reports its GPUs, keeps its lease, and makes the containers that run match the Instances assigned to it.

Level-triggered: a message only hurries along what the next look at the rows would find anyway.
"""

import asyncio
import socket
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import aiohttp
from redis.exceptions import RedisError
from sqlalchemy import Row, func, select
from sqlalchemy.exc import SQLAlchemyError

from core import catalog, events, fleet, health, predictions
from core.errors import MillraceError
from core.ids import new_id
from core.lifecycle import InstanceStatus, NodeFault
from core.log import get_logger
from core.redis import node_channel
from core.resources import Resources
from core.usage import instance_time
from worker import handover
from worker.endpoint import Endpoint, UploadRefused
from worker.identity import load_identity
from worker.inputs import InputFiles
from worker.life import Life
from worker.orphans import Orphans
from worker.outputs import OutputFiles
from worker.place import Place, Surroundings
from worker.prefetch import Prefetch
from worker.runtimes.base import Container, Runtime
from worker.spares import Spares
from worker.supervisor import InstanceSupervisor

log = get_logger()

_CONVERGE_SECONDS = 1.0
#: After Redis or Postgres failed to answer, the next try.
_RETRY_SECONDS = 1.0
_LOOPBACK, _EVERYWHERE = "127.0.0.1", "0.0.0.0"


class LeaseLost(Exception):
    """This life of the node is over: its lease ran out, or the same node was started elsewhere."""


class Node:
    """`kept` is what the program before this one in the same process has handed over; see `worker.handover`."""

    def __init__(self, resources: Resources, runtimes: list[Runtime], kept: dict[str, Any] | None = None) -> None:
        self._resources = resources
        self._settings = resources.settings
        self._actor = events.node(self._settings.node)
        self._database = resources.database
        self._runtimes = runtimes
        self._places: dict[str, Place] = {}
        self._kept = kept
        known = (kept["boot_id"], kept["node_id"]) if kept else (new_id(),)
        self._life = Life(resources, *known, runtimes=runtimes)
        self._children: list[int] = kept["children"] if kept else []
        self._supervisors: dict[str, InstanceSupervisor] = {}
        self._tasks: dict[str, asyncio.Task] = {}
        self._changed = asyncio.Event()
        self._around: Surroundings
        self._orphans: Orphans

    async def run(self, stop: asyncio.Event, restart: asyncio.Event) -> None:
        """Until `stop` is set, then drains; or until `restart` is: then the process goes on with another program.

        Raises `LeaseLost`.
        """
        async with AsyncExitStack() as stack:
            await self._open(stack)
            await self._begin_or_go_on()
            log.info("node is up", node=self._settings.node, boot=self._life.boot_id, kinds=[*self._places])
            loops = [
                asyncio.create_task(loop)
                for loop in (
                    self._beat(),
                    self._converge_for_ever(),
                    self._listen(),
                    health.keep_beating(self._settings, "node"),
                    Prefetch(self._resources, self._runtimes).run(lambda: self._life),
                    Spares(self._resources, self._places).run(lambda: self._life),
                    self._orphans.run(),
                )
            ]
            try:
                await self._until_stopped(stop, restart, loops)
                await self._drain(loops)
            finally:
                for task in (*loops, *self._tasks.values()):
                    task.cancel()
                await self._remove_everything()

    async def _until_stopped(self, stop: asyncio.Event, restart: asyncio.Event, loops: list[asyncio.Task]) -> None:
        stopped = asyncio.create_task(stop.wait())
        while not stop.is_set():
            restarted = asyncio.create_task(restart.wait())
            done, _ = await asyncio.wait([*loops, stopped, restarted], return_when=asyncio.FIRST_COMPLETED)
            restarted.cancel()
            for task in done - {stopped, restarted}:
                task.result()
            if restart.is_set() and not stop.is_set():
                restart.clear()
                await self._hand_over(stop, loops)

    # --- starting ---

    async def _open(self, stack: AsyncExitStack) -> None:
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)))
        inputs, outputs = InputFiles(self._resources), OutputFiles(self._resources)
        self._around = Surroundings(self._resources, self._life.boot_id, http, inputs, outputs)
        identity = load_identity(self._settings, [runtime.name for runtime in self._runtimes])
        for runtime in self._runtimes:
            callback_host = await runtime.callback_host()
            endpoint = Endpoint(
                save=self._save_output,
                open_input=inputs.open,
                host=_LOOPBACK if callback_host == _LOOPBACK else _EVERYWHERE,
                callback_host=callback_host,
                port=identity.ports[runtime.name],
                secret=identity.secret,
                listener=self._listener(runtime),
            )
            stack.push_async_callback(endpoint.close)
            stack.push_async_callback(runtime.close)
            self._places[runtime.artifact_kind] = Place(runtime, endpoint)
        self._orphans = Orphans(self._database, self._places.values(), self._supervisors.__contains__)

    async def _begin_or_go_on(self) -> None:
        """Whoever calls here from a container finds its prediction known."""
        if self._kept is None or not await self._go_on(self._kept):
            await self._start_endpoints()
            await self._life.begin(self._places)
            await self._adopt()
        else:
            await self._adopt(self._kept["instances"])
            await self._start_endpoints()
        self._kept = None

    async def _start_endpoints(self) -> None:
        for place in self._places.values():
            await place.endpoint.start()

    async def _save_output(self, instance_id, prediction_id, filename, content_type, chunks) -> str:
        """An upload from a container; old ones do not say for which prediction, so only a lone one can be meant."""
        supervisor = self._supervisors.get(instance_id)
        runners = {id: runner for id, runner in supervisor.runners.items() if runner.row} if supervisor else {}
        if prediction_id is None and len(at_work := [id for id, runner in runners.items() if runner.is_at_work]) == 1:
            [prediction_id] = at_work
        if prediction_id not in runners:
            raise UploadRefused(f"No prediction that runs in instance {instance_id} can own {filename!r}.")
        row = runners[prediction_id].row
        return await self._around.outputs.save(row.account_id, row.id, filename, content_type, chunks)

    async def _adopt(self, kept: Mapping[str, dict[str, Any]] = MappingProxyType({})) -> None:
        """Takes over containers that belong to an Instance of ours and removes those that do no more, before anything
        else: until then their GPUs are not free, whatever rows say. What is `kept` by Instance goes on as it was."""
        rows = {row.id: row for row in await self._instances()}
        versions = await self._versions(rows.values())
        for place in self._places.values():
            for container in await place.runtime.list():
                row = rows.get(container.instance_id)
                if row is not None and row.id in kept:
                    await self._resume(row, versions[row.version_id], container, kept[row.id])
                elif row is not None and row.is_wanted and row.status != InstanceStatus.PENDING:
                    self._supervise(row, versions[row.version_id], container)
        handover.close(handover.lines(instance for id, instance in kept.items() if id not in self._supervisors))
        for row in [row for id, row in rows.items() if id not in self._supervisors]:
            await self._orphans.remove_of(row.id)
            if row.status == InstanceStatus.STARTING and row.is_wanted and self._kept is not None:
                # Its artifact was being made ready.
                self._supervise(row, versions[row.version_id])
            elif row.status != InstanceStatus.PENDING:
                await self._write_off(row)
        await self._orphans.look()

    async def _write_off(self, row: Row) -> None:
        """An Instance without a supervisor, because that broke or an earlier life had it: its container goes first."""
        await self._orphans.remove_of(row.id)
        async with self._database.transaction() as tx:
            status = InstanceStatus(row.status)
            await fleet.move_instance(tx, row.id, status, InstanceStatus.FAILED, reason=NodeFault.UNWATCHED)

    # --- the loops ---

    async def _beat(self) -> None:
        """Renews the lease. Losing it ends this life at once: others may already run what we held."""
        every = pause = self._settings.node_heartbeat_seconds
        while True:
            await asyncio.sleep(pause)
            pause = every
            working = [id for id, supervisor in self._supervisors.items() if supervisor.worked_lately()]
            try:
                if not await self._life.renew():
                    raise LeaseLost("The lease of this node ran out; what it ran has been given to others.")
                if working:
                    async with self._database.transaction() as tx:
                        await fleet.note_activity(tx, working)
                await self._report_times()
            except SQLAlchemyError as error:
                log.warning("heartbeat not written, will try again", error=str(error))
                pause = min(every, _RETRY_SECONDS)

    async def _report_times(self) -> None:
        async with self._database.autocommit() as tx:
            await instance_time.report(tx, {id: each.times() for id, each in self._supervisors.items()})

    async def _converge_for_ever(self) -> None:
        while True:
            try:
                await self._converge()
            except (SQLAlchemyError, MillraceError) as error:
                log.warning("not converged, will try again", error=str(error))
            handover.reap(self._children)
            self._changed.clear()
            try:
                async with asyncio.timeout(_CONVERGE_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _listen(self) -> None:
        """Messages that hurry us along: `converge`, and `cancel <prediction>`."""
        while True:
            try:
                async with self._resources.redis.pubsub() as channel:
                    await channel.subscribe(node_channel(self._life.node_id))
                    async for message in channel.listen():
                        if message["type"] == "message":
                            self._obey(message["data"])
            except (RedisError, OSError) as error:
                log.warning("messages not heard, will try again", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    def _obey(self, message: str) -> None:
        verb, _, prediction_id = message.partition(" ")
        if verb == "cancel":
            self._cancel(prediction_id)
        self._changed.set()

    def _cancel(self, prediction_id: str) -> None:
        for supervisor in self._supervisors.values():
            if prediction_id in supervisor.runners:
                supervisor.runners[prediction_id].cancel()

    # --- converging ---

    async def _converge(self) -> None:
        rows = {row.id: row for row in await self._instances()}
        await self._begin([row for row in rows.values() if row.id not in self._supervisors])
        for id, supervisor in self._supervisors.items():
            if id not in rows or not rows[id].is_wanted:
                supervisor.drain()
            if id in rows and fleet.cancels_runs(rows[id]):
                supervisor.run_out_of_money()
        await self._give_up_what_is_late(rows.values())
        async with self._database.autocommit() as tx:
            for prediction_id in await predictions.cancel_requested(tx, self._life.boot_id):
                self._cancel(prediction_id)
        await self._give_up_what_nobody_runs()

    async def _give_up_what_is_late(self, rows: Collection[Row]) -> None:
        """What an Instance that drains still runs when its time is over."""
        draining = [row for row in rows if row.drain_deadline_at is not None and not row.is_wanted]
        if not draining:
            return
        async with self._database.autocommit() as tx:
            now = await tx.scalar(select(func.now()))
        for row in draining:
            if row.drain_deadline_at <= now and (supervisor := self._supervisors.get(row.id)):
                await supervisor.give_up()

    async def _give_up_what_nobody_runs(self) -> None:
        """A run that broke, or whose start was committed as Postgres went away: the row says it is ours, and it would
        stay so for ever, since we live."""
        async with self._database.autocommit() as tx:
            rows = await predictions.running_on(tx, self._life.boot_id)
        known = {id for supervisor in self._supervisors.values() for id in supervisor.runners}
        for row in rows:
            if row.id not in known:
                log.warning("giving up what nobody runs", prediction=row.id, attempt=row.attempt)
                async with self._database.transaction() as tx:
                    await predictions.interrupt(tx, row.id, row.attempt, row.allows_retry, actor=self._actor)

    async def _begin(self, rows: list[Row]) -> None:
        versions = await self._versions(rows)
        for row in rows:
            if row.status != InstanceStatus.PENDING:
                await self._write_off(row)
            elif row.is_wanted:
                await self._orphans.free(row.gpu_uuids)
                self._supervise(row, versions[row.version_id])
            else:
                async with self._database.transaction() as tx:
                    await fleet.move_instance(tx, row.id, InstanceStatus.PENDING, InstanceStatus.STOPPED)

    def _supervise(self, row: Row, version: Row, adopted: Container | None = None) -> None:
        self._let_live(InstanceSupervisor(row, version, self._places[version.artifact_kind], self._around), adopted)

    async def _resume(self, row: Row, version: Row, container: Container, kept: dict[str, Any]) -> None:
        supervisor = InstanceSupervisor(row, version, self._places[version.artifact_kind], self._around)
        await supervisor.resume(container, kept)
        self._let_live(supervisor)

    def _let_live(self, supervisor: InstanceSupervisor, adopted: Container | None = None) -> None:
        self._supervisors[supervisor.id] = supervisor
        task = self._tasks[supervisor.id] = asyncio.create_task(supervisor.run(adopted))
        task.add_done_callback(lambda task: self._supervised(supervisor.id, task))

    def _supervised(self, instance_id: str, task: asyncio.Task) -> None:
        self._supervisors.pop(instance_id, None)
        self._tasks.pop(instance_id, None)
        if not task.cancelled() and task.exception() is not None:
            log.error("an instance's supervisor broke", instance=instance_id, exc_info=task.exception())

    async def _instances(self) -> list[Row]:
        async with self._database.autocommit() as tx:
            return await fleet.live_instances(tx, self._life.node_id)

    async def _versions(self, rows) -> dict[str, Row]:
        ids = [row.version_id for row in rows]
        if not ids:
            return {}
        async with self._database.autocommit() as tx:
            return await catalog.versions_by_id(tx, ids)

    # --- another program goes on ---

    async def _hand_over(self, stop: asyncio.Event, loops: list[asyncio.Task]) -> None:
        """Returns where the new code does not load, or Postgres is away: then all goes on as before."""
        if not await handover.is_possible() or not await self._life.is_still_ours():
            return
        log.info("node is replaced by a new program", running=sum(len(s.runners) for s in self._supervisors.values()))
        _beating, converging, listening, *_ = loops
        converging.cancel()
        listening.cancel()
        supervisors = [*self._supervisors.values()]
        await asyncio.gather(*(supervisor.halt() for supervisor in supervisors))
        listeners = {name: await place.endpoint.leave() for name, place in self._places.items()}
        kept = zip(supervisors, await asyncio.gather(*(each.leave() for each in supervisors)), strict=True)
        handover.hold_signals()
        await self._life.is_still_ours()  # For as long as the new program takes to start.
        document = {
            "node_id": self._life.node_id,
            "boot_id": self._life.boot_id,
            "listeners": {name: listener.fileno() for name, listener in listeners.items()},
            "instances": {supervisor.id: instance for supervisor, instance in kept if instance is not None},
        }
        handover.replace(document, handover.descriptors(document), is_to_stop=stop.is_set())

    def _listener(self, runtime: Runtime) -> socket.socket | None:
        fd = self._kept and self._kept["listeners"].pop(runtime.artifact_kind, None)
        return None if fd is None else socket.socket(fileno=fd)

    async def _go_on(self, kept: dict[str, Any]) -> bool:
        """As the same life of the node. False: its lease was lost; what ran is not ours, and its container is told."""
        if await self._life.is_still_ours():
            return True
        log.error("the lease was lost in between, beginning anew")
        handover.close(handover.descriptors({**kept, "listeners": {}}))
        self._life = Life(self._resources, new_id(), runtimes=self._runtimes)
        self._around = replace(self._around, boot_id=self._life.boot_id)
        return False

    # --- leaving ---

    async def _drain(self, loops: list[asyncio.Task]) -> None:
        log.info("node is draining", running=sum(len(s.runners) for s in self._supervisors.values()))
        converging = loops[1]
        converging.cancel()
        for supervisor in self._supervisors.values():
            supervisor.drain()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=self._settings.drain_seconds)
        for supervisor in list(self._supervisors.values()):
            await supervisor.give_up()
        try:
            await self._report_times()
        except SQLAlchemyError as error:
            log.warning("last times not written, and not charged", error=str(error))

    async def _remove_everything(self) -> None:
        """No container outlives an orderly end, and the rows learn of it at once."""
        for runtime in self._runtimes:
            await runtime.keep_ready([])
            for container in await runtime.list():
                await runtime.stop(container, grace_seconds=1)
        async with self._database.transaction() as tx:
            for row in await fleet.live_instances(tx, self._life.node_id):
                if row.status != InstanceStatus.PENDING:
                    status = InstanceStatus(row.status)
                    await fleet.move_instance(tx, row.id, status, InstanceStatus.FAILED, reason=NodeFault.STOPPED)
            await fleet.release_lease(tx, self._life.node_id, self._life.boot_id)
