"""Removes containers of ours that serve no Instance: left by a crash in between, or by a life that nobody remembers.

What carries other labels, or none, no runtime lists, so it is never seen here.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from core import fleet
from core.clock import monotonic
from core.database import Database
from core.errors import MillraceError
from core.lifecycle import InstanceStatus
from core.log import get_logger
from worker.place import Place
from worker.runtimes.base import Container, Runtime

log = get_logger()

_LOOK_SECONDS = 5.0
#: One of which no row tells, as after a database was restored, or with a wrong one: an operator has so long to see the
#: warning. Nobody waits for it: where its GPUs are wanted, it goes at once.
GRACE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Orphan:
    container: Container
    runtime: Runtime

    async def remove(self, why: str) -> None:
        log.warning("removing a container", container=self.container.id, instance=self.container.instance_id, why=why)
        await self.runtime.stop(self.container, grace_seconds=0)


class Orphans:
    """`is_known` tells of an Instance whether somebody looks after its container."""

    def __init__(self, database: Database, places: Iterable[Place], is_known: Callable[[str], bool]) -> None:
        self._database = database
        self._runtimes = [place.runtime for place in places]
        self._is_known = is_known
        self._since: dict[str, float] = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self.look()
            except (SQLAlchemyError, MillraceError) as error:
                log.warning("no look for containers without an instance, will try again", error=str(error))

    async def look(self) -> None:
        """Those whose Instance is over go at once, those that nobody has heard of after a grace."""
        found = await self._found()
        async with self._database.autocommit() as tx:
            statuses = await fleet.statuses(tx, [each.container.instance_id for each in found])
        unheard = [each for each in found if each.container.instance_id not in statuses]
        self._note(unheard)
        for orphan in found:
            status = statuses.get(orphan.container.instance_id)
            if status is not None and InstanceStatus(status).is_terminal:
                await orphan.remove("Its instance is over.")
        for orphan in unheard:
            if monotonic() - self._since[orphan.container.id] >= GRACE_SECONDS:
                await orphan.remove("No instance of its name was ever heard of.")

    async def remove_of(self, instance_id: str) -> None:
        """What an Instance has left that nobody looks after any more."""
        for orphan in await self._found():
            if orphan.container.instance_id == instance_id:
                await orphan.remove("Nobody looks after it.")

    async def free(self, gpu_uuids: Collection[str]) -> None:
        """When this returns, nobody unknown holds one of these GPUs: what runs decides that, whatever rows say."""
        if not gpu_uuids:
            return
        for orphan in await self._found():
            if set(orphan.container.gpu_uuids) & set(gpu_uuids):
                await orphan.remove("It serves no instance, and another one is to have its GPU.")

    def _note(self, unheard: Collection[Orphan]) -> None:
        before, now = self._since, monotonic()
        self._since = {each.container.id: before.get(each.container.id, now) for each in unheard}
        for orphan in unheard:
            if orphan.container.id not in before:
                log.warning(
                    "a container serves no instance that this database has heard of",
                    container=orphan.container.id,
                    instance=orphan.container.instance_id,
                    removed_in=GRACE_SECONDS,
                )

    async def _found(self) -> list[Orphan]:
        return [
            Orphan(container, runtime)
            for runtime in self._runtimes
            for container in await runtime.list()
            if not self._is_known(container.instance_id)
        ]
