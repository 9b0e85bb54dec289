"""What RQ calls: shells that open the resources and call one function. The only sync code besides migrations."""

import asyncio

from core.resources import open_resources
from core.settings import get_settings
from worker.preparation import prepare


def prepare_version(version_id: str) -> None:
    asyncio.run(_prepare_version(version_id))


async def _prepare_version(version_id: str) -> None:
    async with open_resources(get_settings()) as resources:
        await prepare(resources, version_id)
