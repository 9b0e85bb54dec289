"""Makes a Version runnable: reads what the model expects and returns, and how its containers are to be started.

A bundle's environment is built here, so that its first Instance need not wait for it; an image tells everything by its
labels. Whoever prepares holds a lease on the Version; should this process die, the scheduler has it done again.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from core import catalog
from core.errors import MillraceError
from core.inputs import InputSchema
from core.log import get_logger
from core.resources import Resources
from worker import weights
from worker.registry import image_artifact
from worker.runtimes.base import ArtifactUnavailable
from worker.runtimes.process import ProcessRuntime

log = get_logger()

# Short, because after a kill the next start waits it out.
_LEASE_SECONDS = 15.0
_UNKNOWN_COG = "unknown"


@dataclass(frozen=True, slots=True)
class Prepared:
    openapi_schema: dict[str, Any]
    cog_version: str
    slots: int
    config: dict[str, Any]


async def prepare(resources: Resources, version_id: str) -> None:
    """Ends with the Version `ready`, or `failed` with a reason. The caller's job holds its lease already."""
    async with resources.database.autocommit() as tx:
        version = await catalog.get_version(tx, version_id)
    if version is None:
        return
    log.info("preparing", version=version_id, artifact=version.artifact)
    async with _renewing_lease(resources, version_id):
        try:
            prepared = await _read(resources, version)
            InputSchema(prepared.openapi_schema)  # one that cannot be used fails here, not with every prediction
        except (ArtifactUnavailable, MillraceError) as error:
            log.warning("preparation failed", version=version_id, reason=str(error))
            async with resources.database.transaction() as tx:
                await catalog.preparation_failed(tx, version_id, str(error))
            return
    async with resources.database.transaction() as tx:
        await catalog.prepared(
            tx,
            version_id,
            openapi_schema=prepared.openapi_schema,
            cog_version=prepared.cog_version,
            slots=prepared.slots,
            config=prepared.config,
        )
    log.info("prepared", version=version_id, cog_version=prepared.cog_version, slots=prepared.slots)


async def _read(resources: Resources, version: Row) -> Prepared:
    if version.artifact_kind == "bundle":
        runtime = ProcessRuntime(resources.settings, resources.files.fetch_bundle)
        found = await runtime.inspect(version.artifact)
        return Prepared(found.openapi_schema, found.cog_version, found.concurrency, version.config)
    image = await image_artifact(version.artifact)
    slots = int((image.config.get("concurrency") or {}).get("max") or 1)
    return Prepared(
        image.openapi_schema, image.cog_version or _UNKNOWN_COG, slots, weights.kept(image.config, image.weights)
    )


@asynccontextmanager
async def _renewing_lease(resources: Resources, version_id: str) -> AsyncIterator[None]:
    async def renew() -> None:
        while True:
            async with resources.database.transaction() as tx:
                await catalog.renew_preparation(tx, version_id, _LEASE_SECONDS)
            await asyncio.sleep(_LEASE_SECONDS / 4)

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.wait([renewing])
