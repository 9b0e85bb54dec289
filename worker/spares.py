"""Keeps a container made, and not started, for Versions that this node may soon be asked to run: their boot is a start.

On the GPUs that the last one had: they are chosen as a container is made. A spare holds no GPU; where another is asked
for, its boot makes its own, and nothing is lost but the head start.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping

from sqlalchemy import Row
from sqlalchemy.exc import SQLAlchemyError

from core import artifacts
from core.errors import MillraceError
from core.log import get_logger
from core.resources import Resources
from worker.life import Life
from worker.place import Place
from worker.runtimes.base import ContainerSpec
from worker.specs import container_spec

log = get_logger()

#: One is made at each look, so that a boot is never behind more than one of them.
_LOOK_SECONDS = 5.0
#: Each is a folder on the disk and a few kilobytes of the engine's memory; engines answer slower with hundreds.
_MOST = 32


class Spares:
    """`places` by kind of artifact."""

    def __init__(self, resources: Resources, places: Mapping[str, Place]) -> None:
        self._database = resources.database
        self._places = places

    async def run(self, life: Callable[[], Life]) -> None:
        """For as long as the node lives; `life` is its current one."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self.look(life())
            except (SQLAlchemyError, MillraceError) as error:
                log.warning("no container made ahead, will try again", error=str(error))

    async def look(self, life: Life) -> None:
        async with self._database.autocommit() as tx:
            rows = await artifacts.expected(tx, life.node_id, _MOST)
        specs: dict[str, list[ContainerSpec]] = defaultdict(list)
        for row in rows:
            gpu_uuids = likely_gpus(row)
            if gpu_uuids is not None:
                endpoint = self._places[row.artifact_kind].endpoint
                specs[row.artifact_kind].append(container_spec(row, endpoint, slots=row.slots, gpu_uuids=gpu_uuids))
        for kind, place in self._places.items():
            await place.runtime.keep_ready(specs[kind])


def likely_gpus(expected: Row) -> list[str] | None:
    """Those that its last Instance had, if they are there; the only ones that fit; None: nobody can tell."""
    # A GPU that is cut into MIG slices is no device itself: they are.
    parents = {gpu["parent"] for gpu in expected.gpus if gpu.get("parent")}
    fitting = [gpu["uuid"] for gpu in expected.gpus if gpu["name"] == expected.gpu_model and gpu["uuid"] not in parents]
    if expected.gpu_uuids is not None and set(expected.gpu_uuids) <= set(fitting):
        return expected.gpu_uuids
    return fitting if len(fitting) == expected.gpu_count else None
