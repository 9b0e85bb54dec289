"""Instances whose time somebody pays, and what tests ask about it."""

from dataclasses import dataclass

from sqlalchemy import Row, func, select, update

from core import fleet
from core.catalog import Runnable
from core.database import Transaction
from core.lifecycle import InstanceStatus
from core.money import credits, folding, wallets
from core.money.pricing import MICROS_PER_SECOND
from core.people import accounts
from core.resources import Resources
from core.tables import Instance, InstanceTime, Model, UsageRecord
from core.usage import instance_holds, instance_time
from core.usage.instance_owners import ALWAYS
from core.usage.instance_time import Counters
from tests.support.factories import add_node, add_runnable


@dataclass(frozen=True)
class Work:
    """A ready Instance, its owner who pays for its time, and what one does to it."""

    resources: Resources
    node: Row
    runnable: Runnable
    owner_id: str
    instance_id: str

    async def report(self, setup: float, idle: float, active: float) -> None:
        """Seconds in each phase so far."""
        counters = Counters(*(int(seconds * MICROS_PER_SECOND) for seconds in (setup, idle, active)))
        async with self.resources.database.autocommit() as tx:
            await instance_time.report(tx, {self.instance_id: counters})

    async def end(self) -> None:
        async with self.resources.database.transaction() as tx:
            await fleet.move_instance(tx, self.instance_id, InstanceStatus.READY, InstanceStatus.FAILED, reason="x")

    async def close(self) -> int:
        async with self.resources.database.autocommit() as tx:
            return await instance_time.close(tx)

    async def hold(self) -> list[str | None]:
        """Of each that was short: the rule of its owner's wallet if that was empty, or None."""
        async with self.resources.database.transaction() as tx:
            short = await instance_holds.short(tx)
            if not short:
                return []
            rule, unpaid = await instance_holds.fill(tx, self.owner_id, short)
            return [rule if row in unpaid else None for row in short]

    async def release(self) -> int:
        async with self.resources.database.autocommit() as tx:
            return await instance_holds.release(tx)

    async def settle(self) -> Row:
        """Everything closed, released and added up; the owner's wallet."""
        await self.close()
        await self.release()
        async with self.resources.database.transaction() as tx:
            await folding.fold(tx, self.owner_id)
            return await wallets.get(tx, self.owner_id)

    async def instance(self) -> Row:
        async with self.resources.database.autocommit() as tx:
            return await fleet.get_instance(tx, self.instance_id)

    async def open_times(self) -> list[Row]:
        mine = select(InstanceTime).where(InstanceTime.instance_id == self.instance_id)
        async with self.resources.database.autocommit() as tx:
            return list(await tx.all(mine.order_by(InstanceTime.hour, InstanceTime.phase, InstanceTime.from_micros)))

    async def records(self) -> list[Row]:
        mine = select(UsageRecord).where(UsageRecord.cause_id.startswith(f"{self.instance_id}:"))
        async with self.resources.database.autocommit() as tx:
            return list(await tx.all(mine.order_by(UsageRecord.day, UsageRecord.phase, UsageRecord.cause_id)))

    async def age(self, hours: int) -> None:
        """As if what has been reported so far had been so long ago."""
        ago = func.make_interval(0, 0, 0, 0, hours)
        aged = update(InstanceTime).where(InstanceTime.instance_id == self.instance_id)
        async with self.resources.database.transaction() as tx:
            await tx.execute(aged.values(hour=InstanceTime.hour - ago, ended_at=InstanceTime.ended_at - ago))


async def owner_of(tx: Transaction, runnable: Runnable) -> str:
    owner = runnable.model.partition("/")[0]
    return (await accounts.ensure(tx, owner, owner)).id


async def begin_work(
    resources: Resources, *, policy: str = ALWAYS, credit: int | None = None, when_empty: str = wallets.STOP
) -> Work:
    """With `credit`, its owner is prepaid and has so much; otherwise they owe without limit."""
    async with resources.database.transaction() as tx:
        runnable, node = await add_runnable(tx), await add_node(tx)
        owner_id = await owner_of(tx, runnable)
        if credit is not None:
            await wallets.set_terms(tx, owner_id, credit_limit_nanos=0, when_empty=when_empty)
            money = {"amount_nanos": credit, "reason": "test", "actor": "test"}
            await credits.add(tx, owner_id, kind=credits.PAID, **money)
        instance_id = await add_paid_instance(tx, node, runnable, policy)
    return Work(resources, node, runnable, owner_id, instance_id)


async def add_paid_instance(tx: Transaction, node: Row, runnable: Runnable, policy: str = ALWAYS) -> str:
    """The id of one that is ready."""
    id = await fleet.assign(
        tx,
        node_id=node.id,
        target=runnable.target,
        version_id=runnable.version_id,
        hardware_sku=runnable.hardware_sku,
        slots=1,
        gpu_uuids=(),
        deployment_id=runnable.deployment_id,
        bill_instances=policy,
    )
    await fleet.move_instance(tx, id, InstanceStatus.PENDING, InstanceStatus.STARTING)
    await fleet.move_instance(tx, id, InstanceStatus.STARTING, InstanceStatus.READY)
    return id


async def make_private(tx: Transaction, runnable: Runnable) -> None:
    owner, _, name = runnable.model.partition("/")
    owner_id = await owner_of(tx, runnable)
    await tx.execute(update(Model).where(Model.owner_id == owner_id, Model.name == name).values(visibility="private"))


async def instance_row(tx: Transaction, id: str) -> Row:
    return await tx.one(select(Instance).where(Instance.id == id))
