"""Periodic passes over rows, one file each: threshold and interval at the top, one query, one decision.

Every one may run at any time, twice, or after its like has crashed: what it writes is guarded where it is written.
"""

from scheduler.sweeps import (
    deliver,
    drain,
    expire,
    fold,
    invoice,
    meter,
    prepare,
    purge,
    recharge,
    render,
    requeue,
    rescue,
    scale,
    settle,
)
from scheduler.sweeps.base import Sweep

#: In the order in which a pass runs those that are due.
SWEEPS: tuple[Sweep, ...] = (
    rescue.SWEEP,
    expire.SWEEP,
    drain.SWEEP,
    scale.SWEEP,
    requeue.SWEEP,
    prepare.SWEEP,
    deliver.SWEEP,
    meter.SWEEP,
    fold.SWEEP,
    recharge.SWEEP,
    settle.SWEEP,
    invoice.SWEEP,
    render.SWEEP,
    purge.SWEEP,
)

__all__ = ["SWEEPS", "Sweep"]
