"""What waits and what runs, seen from the targets: how much there is to do, and what those who wait are told."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ARRAY, Double, Row, Text, and_, case, cast, func, literal, select, update

from core import events
from core.database import Transaction, seconds_from_now
from core.lifecycle import InstanceStatus, PredictionStatus
from core.money.pricing import MICROS_PER_SECOND
from core.tables import Event, Instance, Prediction, UsageRecord
from core.usage.metering import PREDICTION

#: Enough runs for a mean, few enough that yesterday's model does not count.
_LATEST_RUNS = 20
_LATEST_BOOTS = 5


#: To those of a target that has no Instance ready, but one that is coming.
STARTED = "A container is being started for this model."

#: A tenth of a second's work for the database, in each pass; a reason may change as often as that.
TOLD_AT_ONCE = 1000
#: What goes on for long is told again after so many seconds, so that it is among the events of who came meanwhile.
_TOLD_AGAIN_SECONDS = 60.0


async def explain(tx: Transaction, target: str, reason: str) -> None:
    """Tells those who wait for a target why, and puts on record that the reason has changed. At most `TOLD_AT_ONCE`,
    the oldest who were not told so: where there are more, it is called again. Who is being started need not know."""
    untold = (
        select(Prediction.id)
        .where(
            Prediction.completed_at.is_(None),
            Prediction.target == target,
            Prediction.status == PredictionStatus.STARTING,
            Prediction.queue_reason.is_distinct_from(reason),
        )
        .order_by(Prediction.created_at)
        .limit(TOLD_AT_ONCE)
        .with_for_update(skip_locked=True)
        .cte("untold")
    )
    told = await tx.execute(update(Prediction).where(Prediction.id == untold.c.id).values(queue_reason=reason))
    subject = events.target(target)
    if told.rowcount and not await _is_known(tx, subject, reason):
        await events.record(tx, subject, events.SCHEDULER, reason=reason)


async def _is_known(tx: Transaction, subject: str, reason: str) -> bool:
    is_fresh = Event.at > seconds_from_now(-_TOLD_AGAIN_SECONDS)
    last = select(Event.reason == reason, is_fresh).where(Event.subject == subject)
    found = await tx.first(last.order_by(Event.id.desc()).limit(1))
    return found is not None and all(found)


def standing(reason: str | None, ahead: int | None, seconds: float | None) -> str | None:
    """A reason as one of those who wait is told it, with how many are before it and for about how long."""
    if reason is None:
        return None
    told = [reason.removesuffix(".")]
    if ahead:
        told.append(f"{ahead} prediction{'s' if ahead > 1 else ''} ahead")
    if seconds is not None:
        told.append(f"about {_about(seconds)}")
    return "; ".join(told) + "."


def _about(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{round(seconds / 3600)} h"


async def demand(tx: Transaction) -> list[Row]:
    """Per target: how many wait, how many run, since when the oldest waits, and the reason that all who wait were told
    (None: not all, or not the same)."""
    waits = Prediction.status == PredictionStatus.STARTING
    reason = Prediction.queue_reason
    all_told = and_(
        func.count(reason).filter(waits) == func.count().filter(waits),
        func.min(reason).filter(waits) == func.max(reason).filter(waits),
    )
    return list(
        await tx.all(
            select(
                Prediction.target,
                # One and the same for a target, which is all that they are grouped by.
                func.min(Prediction.version_id).label("version_id"),
                func.min(Prediction.hardware_sku).label("hardware_sku"),
                func.count().filter(waits).label("waiting"),
                func.count().filter(~waits).label("running"),
                func.extract("epoch", func.now() - func.min(Prediction.created_at).filter(waits)).label("oldest_wait"),
                case((all_told, func.min(reason).filter(waits))).label("told"),
            )
            .where(Prediction.completed_at.is_(None))
            .group_by(Prediction.target)
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

    def estimate(self, ahead: int, reason: str | None = None) -> float | None:
        """Seconds until a prediction with so many before it starts, which waits for that reason; None: nobody knows."""
        if not self.slots:
            if reason not in (None, STARTED):
                return None  # Nothing is coming for as long as that is so.
            return None if self.boot_seconds is None else self.boot_seconds + ahead * (self.run_seconds or 0.0)
        return None if self.run_seconds is None else (ahead + 1) * self.run_seconds / self.slots


async def pace(tx: Transaction, target: str, version_id: str) -> Pace:
    slots = select(func.coalesce(func.sum(Instance.slots), 0)).where(
        Instance.target == target, Instance.status == InstanceStatus.READY
    )
    count = await tx.scalar(slots)
    found = (await paces(tx, [version_id]))[version_id]
    return Pace(int(count), found.run_seconds, found.boot_seconds)


async def paces(tx: Transaction, version_ids: Collection[str]) -> dict[str, Row]:
    """By Version, `run_seconds` and `boot_seconds`: means of the latest; None where there are none."""
    version = func.unnest(literal(list(version_ids), ARRAY(Text))).table_valued("id", name="version").render_derived()
    runs = (
        select(UsageRecord.micros)
        .where(UsageRecord.version_id == version.c.id, UsageRecord.cause_kind == PREDICTION)
        .order_by(UsageRecord.ended_at.desc())
        .limit(_LATEST_RUNS)
        .correlate(version)
        .subquery()
    )
    boots = (
        select((Instance.ready_at - Instance.created_at).label("boot"))
        .where(Instance.version_id == version.c.id, Instance.ready_at.is_not(None))
        .order_by(Instance.created_at.desc())
        .limit(_LATEST_BOOTS)
        .correlate(version)
        .subquery()
    )
    run_seconds = select(func.avg(runs.c.micros) / MICROS_PER_SECOND).scalar_subquery()
    boot_seconds = select(func.extract("epoch", func.avg(boots.c.boot))).scalar_subquery()
    rows = await tx.all(
        select(
            version.c.id,
            cast(run_seconds, Double).label("run_seconds"),
            cast(boot_seconds, Double).label("boot_seconds"),
        )
    )
    return {row.id: row for row in rows}
