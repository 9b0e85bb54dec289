"""Machines: how long they were there, how long somebody's model was on them, what of that idled, and what it cost.

Time of Instances is told apart from that of runs by its usage records having no outcome. An Instance whose callers pay
per run charges nothing itself, so what its idling is worth is told at the list price as it is now.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Row, Select, func, select

from core.database import Transaction
from core.money import prices
from core.money.pricing import MICROS_PER_HOUR, MICROS_PER_SECOND
from core.reports.filters import Filter
from core.reports.totals import total
from core.reports.usage import DAYS
from core.tables import CapacityHour, Hardware
from core.usage.metering import ACTIVE, IDLE, PHASES, SETUP

CAPACITY = CapacityHour.__table__


@dataclass(frozen=True, slots=True)
class Rates:
    """Of one Hardware: what a second of it is sold for at the list, and what an hour costs its operator."""

    name: str
    gpus: int
    nanos_per_second: int
    cost_nanos_per_hour: int

    def at_list(self, micros: int) -> int:
        return micros * self.nanos_per_second // MICROS_PER_SECOND

    def at_cost(self, micros: int) -> int:
        return micros * self.cost_nanos_per_hour // MICROS_PER_HOUR


async def rates(tx: Transaction) -> dict[str, Rates]:
    """By SKU."""
    second = prices.standing(prices.HARDWARE, Hardware.sku, None, func.now())
    hour = prices.standing(prices.COST, Hardware.sku, None, func.now())
    rows = await tx.all(
        select(
            Hardware.sku,
            Hardware.name,
            Hardware.gpu_count,
            func.coalesce(select(second.c.nanos_per_unit).scalar_subquery(), 0).label("second"),
            func.coalesce(select(hour.c.nanos_per_unit).scalar_subquery(), 0).label("hour"),
        )
    )
    return {row.sku: Rates(row.name, row.gpu_count, row.second, row.hour) for row in rows}


def _of_instances(filter: Filter) -> list:
    return [DAYS.c.day.between(filter.first, filter.last), DAYS.c.outcome == "", *filter.conditions(DAYS)]


@dataclass(frozen=True, slots=True)
class Idling:
    """What one Model or Deployment cost by waiting on a Hardware."""

    model: str
    deployment: str
    hardware: str
    account_id: str
    idle_micros: int
    instance_micros: int
    """All time of its Instances, idle or not."""
    charged_nanos: int
    """To its owner."""
    list_nanos: int
    cost_nanos: int

    @property
    def uncharged_nanos(self) -> int:
        """Of its worth, what nobody pays."""
        return max(0, self.list_nanos - self.charged_nanos)


async def idling(tx: Transaction, filter: Filter, limit: int | None = 500) -> list[Idling]:
    """The longest first."""
    keys = (DAYS.c.model, DAYS.c.deployment, DAYS.c.hardware_sku, DAYS.c.account_id)
    is_idle = DAYS.c.phase == IDLE
    idle = total(DAYS.c.micros, is_idle)
    statement = (
        select(
            *keys,
            idle.label("idle_micros"),
            total(DAYS.c.micros).label("instance_micros"),
            total(DAYS.c.amount_nanos, is_idle).label("charged_nanos"),
            total(DAYS.c.cost_nanos, is_idle).label("cost_nanos"),
        )
        .where(*_of_instances(filter))
        .group_by(*keys)
        .having(idle > 0)
        .order_by(idle.desc(), *keys)
        .limit(limit)
    )
    known = await rates(tx)
    return [_idling(row, known.get(row.hardware_sku)) for row in await tx.all(statement)]


def _idling(row: Row, rate: Rates | None) -> Idling:
    return Idling(
        model=row.model,
        deployment=row.deployment,
        hardware=row.hardware_sku,
        account_id=row.account_id,
        idle_micros=row.idle_micros,
        instance_micros=row.instance_micros,
        charged_nanos=row.charged_nanos,
        list_nanos=rate.at_list(row.idle_micros) if rate else 0,
        cost_nanos=row.cost_nanos,
    )


@dataclass(frozen=True, slots=True)
class Machines:
    """A Hardware over the days: what there was of it, what of that was used, what it brought in and cost."""

    sku: str
    rates: Rates
    available_micros: int
    """Of its devices, while their Nodes were there."""
    run_micros: int
    """Of predictions."""
    setup_micros: int
    idle_micros: int
    active_micros: int
    """Of Instances, each counted once for every device it has."""
    amount_nanos: int
    cost_nanos: int
    """Of the time that Instances were on them."""

    @property
    def occupied_micros(self) -> int:
        return self.setup_micros + self.idle_micros + self.active_micros

    @property
    def available_cost_nanos(self) -> int:
        """Of all the time they were there; where nobody counted that, of the time they were used."""
        devices = max(1, self.rates.gpus)
        return max(self.cost_nanos, self.rates.at_cost(self.available_micros) // devices)

    @property
    def margin_nanos(self) -> int:
        return self.amount_nanos - self.available_cost_nanos


@dataclass(frozen=True, slots=True)
class Overall:
    """The same from several sides, by one look at the roll-up."""

    machines: list[Machines]
    """The one that brings in most first."""
    phases: dict[str, int]
    """Microseconds of Instances."""
    failed: dict[str, tuple[int, int]]
    """Runs that were charged and did not succeed: how many, and how much, by outcome."""
    idle: tuple[int, int, int, int]
    """As `idle_cost`."""


async def overall(tx: Transaction, filter: Filter) -> Overall:
    known = await rates(tx)
    parts = await tx.all(_parts(filter))
    available = {row.hardware_sku: row.micros for row in await tx.all(_available(filter))}
    skus = available.keys() | {part.hardware_sku for part in parts}
    machines = [
        _machines(
            sku,
            known.get(sku) or Rates(sku, 0, 0, 0),
            available.get(sku, 0),
            [part for part in parts if part.hardware_sku == sku],
        )
        for sku in skus
    ]
    idle = [part for part in parts if not part.outcome and part.phase == IDLE]
    listed = sum(known[part.hardware_sku].at_list(part.micros) for part in idle if part.hardware_sku in known)
    return Overall(
        machines=sorted(machines, key=lambda each: (-each.amount_nanos, each.sku)),
        phases={phase: _micros(parts, phase) for phase in PHASES},
        failed=_failed(parts),
        idle=(
            _micros(parts, IDLE),
            listed,
            sum(part.amount_nanos for part in idle),
            sum(part.cost_nanos for part in idle),
        ),
    )


def _available(filter: Filter) -> Select:
    summed = select(CAPACITY.c.hardware_sku, total(CAPACITY.c.micros).label("micros"))
    within = [CAPACITY.c.hour >= filter.since, CAPACITY.c.hour < filter.until]
    if filter.hardware is not None:
        within.append(CAPACITY.c.hardware_sku == filter.hardware)
    return summed.where(*within).group_by(CAPACITY.c.hardware_sku)


def _parts(filter: Filter) -> Select:
    keys = (DAYS.c.hardware_sku, DAYS.c.phase, DAYS.c.outcome)
    sums = (total(DAYS.c[name]).label(name) for name in ("runs", "micros", "amount_nanos", "cost_nanos"))
    within = (DAYS.c.day.between(filter.first, filter.last), *filter.conditions(DAYS))
    return select(*keys, *sums).where(*within).group_by(*keys)


def _micros(parts: Sequence[Row], phase: str) -> int:
    """Of Instances."""
    return sum(part.micros for part in parts if not part.outcome and part.phase == phase)


def _failed(parts: Sequence[Row]) -> dict[str, tuple[int, int]]:
    bad = [part for part in parts if part.outcome not in ("", "succeeded") and part.amount_nanos]
    outcomes = sorted({part.outcome for part in bad})
    return {
        outcome: tuple(
            sum(getattr(part, name) for part in bad if part.outcome == outcome) for name in ("runs", "amount_nanos")
        )
        for outcome in outcomes
    }


def _machines(sku: str, rate: Rates, available: int, parts: Sequence[Row]) -> Machines:
    devices = max(1, rate.gpus)
    return Machines(
        sku=sku,
        rates=rate,
        available_micros=available,
        run_micros=sum(part.micros for part in parts if part.outcome),
        setup_micros=_micros(parts, SETUP) * devices,
        idle_micros=_micros(parts, IDLE) * devices,
        active_micros=_micros(parts, ACTIVE) * devices,
        amount_nanos=sum(part.amount_nanos for part in parts),
        cost_nanos=sum(part.cost_nanos for part in parts),
    )


def idle_cost(rows: Sequence[Idling]) -> tuple[int, int, int, int]:
    """Of all together: time, at the list, charged, and at cost."""
    names = ("idle_micros", "list_nanos", "charged_nanos", "cost_nanos")
    return tuple(sum(getattr(row, name) for row in rows) for name in names)  # type: ignore[return-value]
