"""Fetches what may be called before it is: images and bundles of Versions that this node may run, in the background.

One at a time, so that a call's own artifact is never far behind, and not where the disk is nearly full. What a boot
needs it makes ready itself, whether or not it has been here.
"""

import asyncio
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from core import artifacts
from core.clock import monotonic
from core.errors import MillraceError
from core.log import get_logger
from core.resources import Resources
from worker.life import Life
from worker.runtimes.base import Artifact, ArtifactUnavailable, Runtime

log = get_logger()

#: How soon after a publish the fetching begins.
_LOOK_SECONDS = 2.0
#: What could not be had is tried again then.
_RETRY_SECONDS = 300.0
#: The newest ones; others are fetched when they are called.
_MOST = 200
#: Less than this is left for what models write, and for what is called now.
_LEAST_FREE_BYTES = 10 * 1024**3


class Prefetch:
    """`free_bytes` of the disk that a folder is on."""

    def __init__(
        self,
        resources: Resources,
        runtimes: Sequence[Runtime],
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        self._database = resources.database
        self._data = resources.settings.data
        self._runtimes = {runtime.artifact_kind: runtime for runtime in runtimes}
        self._free_bytes = free_bytes
        self._present: set[str] = set()
        self._failed_at: dict[str, float] = {}
        self._is_full = False

    async def run(self, life: Callable[[], Life]) -> None:
        """For as long as the node lives; `life` is its current one."""
        while True:
            try:
                await self.look(life())
            except (SQLAlchemyError, MillraceError) as error:
                log.warning("nothing fetched ahead, will try again", error=str(error))
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self, life: Life) -> None:
        """Fetches what is missing and tells what there is."""
        async with self._database.autocommit() as tx:
            wanted = await artifacts.wanted(tx, life.node_id, _MOST)
        self._present &= {row.artifact for row in wanted}
        for row in wanted:
            if row.artifact not in self._present and self._may_try(row.artifact):
                await self._fetch(Artifact(row.artifact_kind, row.artifact, row.config, {}))
                await self._report(life)
        await self._report(life)

    async def _report(self, life: Life) -> None:
        async with self._database.autocommit() as tx:
            await artifacts.report(tx, life.node_id, life.boot_id, self._present)

    def _may_try(self, reference: str) -> bool:
        if monotonic() - self._failed_at.get(reference, -_RETRY_SECONDS) < _RETRY_SECONDS:
            return False
        free, was_full = self._free_bytes(self._data), self._is_full
        self._is_full = free < _LEAST_FREE_BYTES
        if self._is_full and not was_full:
            log.warning("the disk is nearly full: nothing is fetched ahead", data=str(self._data), free_bytes=free)
        return not self._is_full

    async def _fetch(self, artifact: Artifact) -> None:
        began = monotonic()
        try:
            await self._runtimes[artifact.kind].ensure(artifact)
        except (ArtifactUnavailable, MillraceError, OSError) as error:
            self._failed_at[artifact.reference] = monotonic()
            log.warning("not fetched ahead", artifact=artifact.reference, error=str(error))
            return
        self._present.add(artifact.reference)
        log.info("fetched ahead", artifact=artifact.reference, seconds=round(monotonic() - began, 2))
