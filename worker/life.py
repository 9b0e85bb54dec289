"""One life of a node: what it reports, and the lease that says whether what it runs is still its own."""

import asyncio
from collections.abc import Collection

from sqlalchemy.exc import SQLAlchemyError

from core import catalog, fleet, hardware
from core.clock import monotonic
from core.fleet import NodeReport
from core.log import get_logger
from core.resources import Resources
from core.settings import process_cpus
from worker.gpus import list_gpus

log = get_logger()

#: Without a GPU, this many containers per processor: most models wait more than they compute.
_INSTANCES_PER_CPU = 3
_MIN_INSTANCES = 4
#: After Postgres failed to answer, the next try.
_RETRY_SECONDS = 0.5


class Life:
    """`node_id` is known once it has begun, or from whoever began it."""

    def __init__(self, resources: Resources, boot_id: str, node_id: str = "") -> None:
        self.boot_id = boot_id
        self.node_id = node_id
        self._settings = resources.settings
        self._database = resources.database

    async def begin(self, artifact_kinds: Collection[str]) -> None:
        """Fences off every earlier life of the node."""
        gpus = list_gpus()
        async with self._database.transaction() as tx:
            for gpu in gpus:
                kind = hardware.gpu_hardware(gpu.name)
                await catalog.put_hardware(tx, kind.sku, kind.name, kind.price_nanos_per_second, 1, kind.gpu_model)
            report = NodeReport(
                name=self._settings.node,
                gpus=[gpu.as_dict() for gpu in gpus],
                artifact_kinds=[*artifact_kinds],
                max_instances=max(_MIN_INSTANCES, _INSTANCES_PER_CPU * process_cpus(), len(gpus)),
            )
            row = await fleet.register_node(tx, report, self.boot_id, self._settings.node_lease_seconds)
        self.node_id = row.id

    async def renew(self) -> bool:
        """False: it is over, others may already run what it held."""
        gpus = [gpu.as_dict() for gpu in await asyncio.to_thread(list_gpus)]
        async with self._database.transaction() as tx:
            return await fleet.heartbeat(tx, self.node_id, self.boot_id, gpus, self._settings.node_lease_seconds)

    async def is_still_ours(self) -> bool:
        """Renews it, should Postgres be away then as soon as it answers, unless that takes longer than the lease."""
        deadline = monotonic() + self._settings.node_lease_seconds
        while monotonic() < deadline:
            try:
                return await self.renew()
            except SQLAlchemyError as error:
                log.warning("lease not renewed, will try again", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
        return False
