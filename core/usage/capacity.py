"""How long devices were there to be used: what the time of Instances is compared with.

By Hardware of one GPU, each healthy GPU; and the places for containers that no GPU needs, as Hardware without a GPU.
A node counts as long as its lease lives, cordoned or not: what runs there runs on.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Row, func
from sqlalchemy.dialects.postgresql import insert as upsert

from core import fleet
from core.database import Transaction
from core.hardware import CPU, gpu_hardware
from core.tables import CapacityHour

TABLE = CapacityHour.__table__


async def add(tx: Transaction, micros: int) -> None:
    """The nodes that live now have lived for so long since this was last called."""
    rows = list(_devices(await fleet.live_nodes(tx), micros))
    if not rows:
        return
    hour = func.date_trunc("hour", func.now(), "UTC")
    adding = upsert(TABLE).values([{**row, "hour": hour} for row in rows])
    sums = {"micros": TABLE.c.micros + adding.excluded.micros, "devices": adding.excluded.devices}
    await tx.execute(adding.on_conflict_do_update(index_elements=["hour", "node", "hardware_sku"], set_=sums))


def _devices(nodes: Iterable[Row], micros: int) -> Iterator[dict[str, Any]]:
    for node in nodes:
        counts = Counter(gpu_hardware(gpu["name"]).sku for gpu in node.gpus if gpu["healthy"])
        # An Instance on a GPU takes one of the places, too.
        counts[CPU.sku] = max(0, node.max_instances - len(node.gpus))
        for sku, devices in counts.items():
            if devices:
                yield {"node": node.name, "hardware_sku": sku, "devices": devices, "micros": devices * micros}
