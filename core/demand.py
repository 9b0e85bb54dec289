"""What waits and what runs, seen from the targets: how much there is to do, and what those who wait are told."""

from dataclasses import dataclass

from sqlalchemy import Row, func, select, update

from core.database import Transaction
from core.lifecycle import InstanceStatus, PredictionStatus
from core.money.pricing import MICROS_PER_SECOND
from core.tables import Instance, Prediction, UsageRecord
from core.usage.metering import PREDICTION

#: Enough runs for a mean, few enough that yesterday's model does not count.
_LATEST_RUNS = 20
_LATEST_BOOTS = 5


async def explain(tx: Transaction, target: str, reason: str) -> None:
    """Tells everyone who waits for a target why."""
    await tx.execute(
        update(Prediction)
        .where(
            Prediction.completed_at.is_(None),
            Prediction.target == target,
            Prediction.status == PredictionStatus.STARTING,
            Prediction.queue_reason.is_distinct_from(reason),
        )
        .values(queue_reason=reason)
    )


async def demand(tx: Transaction) -> list[Row]:
    """Per target: how many wait, how many run, and since when the oldest waits."""
    waits = Prediction.status == PredictionStatus.STARTING
    return list(
        await tx.all(
            select(
                Prediction.target,
                Prediction.version_id,
                Prediction.hardware_sku,
                func.count().filter(waits).label("waiting"),
                func.count().filter(~waits).label("running"),
                func.extract("epoch", func.now() - func.min(Prediction.created_at).filter(waits)).label("oldest_wait"),
            )
            .where(Prediction.completed_at.is_(None))
            .group_by(Prediction.target, Prediction.version_id, Prediction.hardware_sku)
        )
    )


async def running_by_instance(tx: Transaction) -> dict[str, int]:
    """How many predictions each Instance runs; Instances that run none are not named."""
    rows = await tx.all(
        select(Prediction.instance_id, func.count().label("running"))
        .where(Prediction.completed_at.is_(None), Prediction.instance_id.is_not(None))
        .group_by(Prediction.instance_id)
    )
    return {row.instance_id: row.running for row in rows}


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a target gets through its queue. Seconds; None: nothing of it has run, or booted, yet."""

    slots: int
    run_seconds: float | None
    boot_seconds: float | None

    def estimate(self, ahead: int) -> float | None:
        """Seconds until a prediction with so many before it starts; None: nobody knows."""
        if not self.slots:
            return None if self.boot_seconds is None else self.boot_seconds + ahead * (self.run_seconds or 0.0)
        return None if self.run_seconds is None else (ahead + 1) * self.run_seconds / self.slots


async def pace(tx: Transaction, target: str, version_id: str) -> Pace:
    runs = (
        select(UsageRecord.micros)
        .where(UsageRecord.version_id == version_id, UsageRecord.cause_kind == PREDICTION)
        .order_by(UsageRecord.ended_at.desc())
        .limit(_LATEST_RUNS)
        .subquery()
    )
    boots = (
        select((Instance.ready_at - Instance.created_at).label("boot"))
        .where(Instance.version_id == version_id, Instance.ready_at.is_not(None))
        .order_by(Instance.created_at.desc())
        .limit(_LATEST_BOOTS)
        .subquery()
    )
    slots = select(func.coalesce(func.sum(Instance.slots), 0)).where(
        Instance.target == target, Instance.status == InstanceStatus.READY
    )
    row = await tx.one(
        select(
            select(func.avg(runs.c.micros)).scalar_subquery().label("micros"),
            select(func.extract("epoch", func.avg(boots.c.boot))).scalar_subquery().label("boot"),
            slots.scalar_subquery().label("slots"),
        )
    )
    run_seconds = None if row.micros is None else float(row.micros) / MICROS_PER_SECOND
    return Pace(int(row.slots), run_seconds, None if row.boot is None else float(row.boot))
