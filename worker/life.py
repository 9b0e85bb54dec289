"""One life of a node: what it reports, and the lease that says whether what it runs is still its own."""

import asyncio
from collections.abc import Collection, Sequence

from sqlalchemy.exc import SQLAlchemyError

from core import catalog, fleet, hardware, peaks
from core.clock import monotonic, now
from core.fleet import NodeReport
from core.log import get_logger
from core.resources import Resources
from core.settings import process_cpus
from worker.devices import Devices
from worker.runtimes.base import Runtime

log = get_logger()

#: Without a GPU, this many containers per processor: most models wait more than they compute.
_INSTANCES_PER_CPU = 3
_MIN_INSTANCES = 4
#: After Postgres failed to answer, the next try.
_RETRY_SECONDS = 0.5


class Life:
    """`node_id` is known once it has begun, or from whoever began it."""

    def __init__(
        self, resources: Resources, boot_id: str, node_id: str = "", *, runtimes: Sequence[Runtime] = ()
    ) -> None:
        self.boot_id = boot_id
        self.node_id = node_id
        self._settings = resources.settings
        self._database = resources.database
        self._devices = Devices(runtimes)

    async def begin(self, artifact_kinds: Collection[str]) -> None:
        """Fences off every earlier life of the node."""
        gpus, _ = await self._devices.look()
        async with self._database.transaction() as tx:
            for kind in hardware.machine_hardware(gpu["name"] for gpu in gpus if gpu["memory_bytes"]):
                terms = (kind.price_nanos_per_second, kind.gpu_count, kind.gpu_model)
                await catalog.put_hardware(tx, kind.sku, kind.name, *terms)
            report = NodeReport(
                name=self._settings.node,
                gpus=gpus,
                artifact_kinds=[*artifact_kinds],
                max_instances=max(_MIN_INSTANCES, _INSTANCES_PER_CPU * process_cpus(), len(gpus)),
            )
            row = await fleet.register_node(tx, report, self.boot_id, self._settings.node_lease_seconds)
        self.node_id = row.id

    async def renew(self) -> bool:
        """False: it is over, others may already run what it held."""
        gpus, used = await self._devices.look()
        lease = self._settings.node_lease_seconds
        async with self._database.transaction() as tx:
            is_ours = await fleet.heartbeat(tx, self.node_id, self.boot_id, gpus, lease, clock=now().timestamp())
            if is_ours:
                await peaks.note(tx, used)
        return is_ours

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
