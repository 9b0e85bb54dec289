"""The container of one Instance, from nothing to ready, or from an earlier life of its node. Knows no predictions."""

import asyncio

from sqlalchemy import Row

from core.clock import monotonic
from core.lifecycle import InstanceStatus
from core.schema import output_schema
from worker.cog import CogContainer, Health, wants_files_inline
from worker.observed import ObservedState
from worker.place import ContainerLost, Place, Surroundings
from worker.runtimes.base import Artifact, Container, ContainerSpec
from worker.stopwatch import Stopwatch

#: An adopted container is looked at this often until it is idle.
_LOOK_SECONDS = 0.1


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

    async def start(self) -> None:
        """`pending -> starting -> ready`. Raises what can go wrong with an artifact or a setup."""
        await self._observed.move(InstanceStatus.PENDING, InstanceStatus.STARTING)
        began = monotonic()
        artifact = artifact_of(self._version)
        await self._runtime.ensure(artifact)
        self.container = await self._runtime.start(self._spec(artifact))
        self._stopwatch.set_up()
        self.cog = self._client(self.container)
        health = await self.cog.wait_until_ready(self._version.setup_timeout_seconds, self.exit_reason)
        self._stopwatch.ready()
        await self._observed.move(
            InstanceStatus.STARTING,
            InstanceStatus.READY,
            setup_logs=health.setup_logs or await self.logs(),
            setup_seconds=monotonic() - began,
        )

    async def adopt(self, container: Container, status: InstanceStatus) -> None:
        """Takes over the container that an earlier life of this node left behind, once it is idle again."""
        self.container, self.cog = container, self._client(container)
        grace = self._around.resources.settings.cancel_grace_seconds
        if status not in (InstanceStatus.STARTING, InstanceStatus.READY):
            raise ContainerLost("Its node restarted while it was stopping.")
        if status is InstanceStatus.STARTING:
            self._stopwatch.set_up()
        timeout = self._version.setup_timeout_seconds if status is InstanceStatus.STARTING else grace
        health = await self.cog.wait_until_ready(timeout, self.exit_reason)
        self._stopwatch.ready()
        await self._until_idle(health, grace)
        if status is InstanceStatus.STARTING:
            await self._observed.move(status, InstanceStatus.READY, setup_logs=health.setup_logs)

    def resume(self, container: Container, manners: dict[str, bool]) -> None:
        """Takes over a container that the program before this one has let go of, at work or not."""
        self.container, self.cog = container, self._client(container)
        self.cog.remember(manners)

    async def exit_reason(self) -> str | None:
        """Why the container ended; None while it runs."""
        ended = await self._runtime.exited(self.container)
        return ended and ended.reason

    async def logs(self) -> str:
        return await self._runtime.logs(self.container) if self.container else ""

    async def remove(self, grace_seconds: float) -> None:
        """When this returns, there is no container, and its GPUs are free."""
        if self.container is not None:
            await self._runtime.stop(self.container, grace_seconds)

    async def _until_idle(self, health: Health, seconds: float) -> None:
        """Losing its node cancels what a container ran; one that does not heed that is in nobody's hands."""
        deadline = monotonic() + seconds
        while health.status == "busy":
            if monotonic() > deadline:
                raise ContainerLost("Its node restarted, and it still ran what it had been given before.")
            await asyncio.sleep(_LOOK_SECONDS)
            health = await self.cog.health()

    def _spec(self, artifact: Artifact) -> ContainerSpec:
        return ContainerSpec(
            instance_id=self._row.id,
            version_id=self._version.id,
            artifact=artifact,
            slots=self._row.slots,
            upload_url=self._upload_url(),
            gpu_uuids=tuple(self._row.gpu_uuids),
            setup_timeout_seconds=self._version.setup_timeout_seconds,
        )

    def _upload_url(self) -> str | None:
        if wants_files_inline(self._version.cog_version, output_schema(self._version.openapi_schema)):
            return None
        return self._endpoint.upload_url(self._row.id)

    def _client(self, container: Container) -> CogContainer:
        return CogContainer(
            container.base_url,
            session=self._around.http,
            hooks=self._endpoint.inbox(self._row.id),
            slots=self._row.slots,
            output_schema=output_schema(self._version.openapi_schema),
        )


def artifact_of(version: Row) -> Artifact:
    return Artifact(version.artifact_kind, version.artifact, version.config, version.openapi_schema or {})
