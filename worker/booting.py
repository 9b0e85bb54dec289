"""The container of one Instance, from nothing to ready, or from an earlier life of its node. Knows no predictions."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from sqlalchemy import Row

from core.clock import monotonic
from core.errors import MillraceError
from core.lifecycle import InstanceStatus
from core.log import get_logger
from core.schema import output_schema
from worker.cog import CogContainer, Health, SetupFailed
from worker.cog.client import ENDED
from worker.observed import ObservedState
from worker.place import ContainerLost, Place, Surroundings
from worker.runtimes.base import Container, ContainerSpec
from worker.setup_log import readable
from worker.specs import artifact_of, container_spec
from worker.stopwatch import Stopwatch

log = get_logger()

#: An adopted container is looked at this often until it is idle.
_LOOK_SECONDS = 0.1
#: What a setup has printed so far is written this often.
_LOGS_SECONDS = 1.0


class CalledOff(Exception):
    """It is not wanted any more, so it need not come up."""


class Phases:
    """Seconds that each phase of a boot took, by one monotonic clock; see `core.boots`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = monotonic()

    def end(self, phase: str) -> None:
        """Ends it, unless it has ended, and begins the next one."""
        if f"{phase}_seconds" not in self.seconds:
            now = monotonic()
            self.seconds[f"{phase}_seconds"], self._since = now - self._since, now


class Boot:
    """`container` is what there is to remove, and `cog` speaks with it, as soon as there is one."""

    def __init__(
        self,
        row: Row,
        version: Row,
        place: Place,
        around: Surroundings,
        observed: ObservedState,
        stopwatch: Stopwatch,
    ) -> None:
        self.container: Container | None = None
        self.cog: CogContainer | None = None
        self._row = row
        self._version = version
        self._runtime = place.runtime
        self._endpoint = place.endpoint
        self._around = around
        self._observed = observed
        self._stopwatch = stopwatch
        self._called_off = asyncio.Event()

    def call_off(self) -> None:
        """`start` and `adopt` raise `CalledOff`, but not in the middle of making a container, nor once it is up."""
        self._called_off.set()

    async def start(self) -> None:
        """`pending -> starting -> ready`. Raises what can go wrong with an artifact or a setup."""
        await self._observed.move(InstanceStatus.PENDING, InstanceStatus.STARTING)
        phases = Phases()
        await self._runtime.ensure(artifact_of(self._version))
        phases.end("pull")
        if self._called_off.is_set():
            raise CalledOff
        self.container = await self._runtime.start(self._spec())
        phases.end("create")
        self._stopwatch.set_up()
        self.cog = self._client(self.container)
        await self._set_up(phases)

    async def adopt(self, container: Container, status: InstanceStatus) -> None:
        """Takes over the container that an earlier life of this node left behind, once it is idle again."""
        self.container, self.cog = container, self._client(container)
        if status is InstanceStatus.STARTING:
            self._stopwatch.set_up()
            await self._set_up(Phases())
        elif status is InstanceStatus.READY:
            grace = self._around.resources.settings.cancel_grace_seconds
            health = await self._until_ready(grace, Phases())
            self._stopwatch.ready()
            await self._until_idle(health, grace)
        else:
            raise ContainerLost("Its node restarted while it was stopping.")

    def resume(self, container: Container, manners: dict[str, bool]) -> None:
        """Takes over a container that the program before this one has let go of, at work or not."""
        self.container, self.cog = container, self._client(container)
        self.cog.remember(manners)

    async def exit_reason(self) -> str | None:
        """Why the container ended; None while it runs."""
        ended = await self._runtime.exited(self.container)
        return ended and ended.reason

    async def ended(self) -> None:
        """Returns as soon as the container is said to have ended, which may never be."""
        try:
            await self._runtime.ended(self.container)
        except MillraceError as error:
            log.warning("end of a container not waited for", instance=self._row.id, error=str(error))

    async def logs(self) -> str:
        return readable(await self._runtime.logs(self.container)) if self.container else ""

    async def remove(self, grace_seconds: float) -> None:
        """When this returns, there is no container, and its GPUs are free."""
        if self.container is not None:
            await self._runtime.stop(self.container, grace_seconds)

    async def _set_up(self, phases: Phases) -> None:
        telling = asyncio.create_task(self._tell_logs())
        try:
            health = await self._unless_called_off(self._until_ready(self._version.setup_timeout_seconds, phases))
        finally:
            telling.cancel()
            await asyncio.wait([telling])
        phases.end("setup")
        self._stopwatch.ready()
        logs = health.setup_logs or await self.logs()
        await self._observed.move(InstanceStatus.STARTING, InstanceStatus.READY, setup_logs=logs, **phases.seconds)

    async def _unless_called_off(self, setting_up: Coroutine[Any, Any, Health]) -> Health:
        ready, off = asyncio.create_task(setting_up), asyncio.create_task(self._called_off.wait())
        try:
            await asyncio.wait([ready, off], return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                return ready.result()
            raise CalledOff
        finally:
            off.cancel()
            ready.cancel()
            await asyncio.wait([ready])

    async def _until_ready(self, seconds: float, phases: Phases) -> Health:
        """Raises `SetupFailed`, and does so at once where the container ends."""
        looking = self.cog.wait_until_ready(seconds, self.exit_reason, lambda _health: phases.end("boot"))
        ready, ended = asyncio.create_task(looking), asyncio.create_task(self.ended())
        try:
            await asyncio.wait([ready, ended], return_when=asyncio.FIRST_COMPLETED)
            if not ready.done() and (reason := await self.exit_reason()):
                raise SetupFailed(ENDED.format(reason=reason))
            return await ready
        finally:
            ready.cancel()
            ended.cancel()

    async def _tell_logs(self) -> None:
        told = ""
        while True:
            await asyncio.sleep(_LOGS_SECONDS)
            try:
                logs = await self.logs()
            except MillraceError as error:
                log.warning("logs of a setup not read", instance=self._row.id, error=str(error))
                continue
            if logs != told:
                await self._observed.note_logs(logs)
                told = logs

    async def _until_idle(self, health: Health, seconds: float) -> None:
        """Losing its node cancels what a container ran; one that does not heed that is in nobody's hands."""
        deadline = monotonic() + seconds
        while health.status == "busy":
            if monotonic() > deadline:
                raise ContainerLost("Its node restarted, and it still ran what it had been given before.")
            await asyncio.sleep(_LOOK_SECONDS)
            health = await self.cog.health()

    def _spec(self) -> ContainerSpec:
        row = self._row
        return container_spec(
            self._version, self._endpoint, slots=row.slots, gpu_uuids=row.gpu_uuids, instance_id=row.id
        )

    def _client(self, container: Container) -> CogContainer:
        self._endpoint.introduce(container.alias, self._row.id)
        return CogContainer(
            container.base_url,
            session=self._around.http,
            hooks=self._endpoint.inbox(self._row.id),
            slots=self._row.slots,
            output_schema=output_schema(self._version.openapi_schema),
        )
