"""A pass of the meter: what is over is charged, money is held or the Instance let go, and devices' time is noted."""

from datetime import timedelta

from sqlalchemy import Row, func, select

from core import fleet
from core.hardware import CPU
from core.lifecycle import InstanceStatus
from core.money import wallets
from core.money.pricing import MICROS_PER_SECOND
from core.tables import Alert, CapacityHour, Instance, Prediction
from core.usage.instance_holds import AHEAD_SECONDS
from scheduler.obstacles import UNFUNDED
from scheduler.sweeps import SWEEPS, meter, scale
from scheduler.sweeps.base import Context
from scheduler.sweeps.meter import Stretch
from tests.core.instances_at_work import Work, begin_work, make_private, owner_of
from tests.scheduler.conftest import Scene
from tests.scheduler.test_deployed import Deployed
from tests.support.factories import PRICE_NANOS_PER_SECOND as PRICE
from tests.support.factories import add_instance, add_node

MINUTE = AHEAD_SECONDS * PRICE


async def told(work: Work) -> list[Row]:
    async with work.resources.database.autocommit() as tx:
        return list(await tx.all(select(Alert).where(Alert.account_id == work.owner_id)))


def test_the_meter_runs_before_what_it_writes_is_added_up() -> None:
    names = [sweep.name for sweep in SWEEPS]
    assert names.index("meter") < names.index("fold")


async def test_a_pass_charges_what_is_over_and_gives_back_what_was_held(context: Context) -> None:
    work = await begin_work(context.resources, credit=10 * MINUTE)
    await meter.run(context)
    assert (await work.instance()).held_nanos == MINUTE
    await work.report(1, 2, 3)
    await work.end()
    await meter.run(context)
    assert {row.phase: row.amount_nanos for row in await work.records()} == {
        "setup": PRICE,
        "idle": 2 * PRICE,
        "active": 3 * PRICE,
    }
    wallet = await work.settle()
    assert (wallet.balance_nanos, wallet.held_nanos) == (10 * MINUTE - 6 * PRICE, 0)


async def test_without_money_for_what_comes_an_instance_is_let_go_and_its_owner_told_once(context: Context) -> None:
    work = await begin_work(context.resources, credit=MINUTE)
    await meter.run(context)
    assert (await work.instance()).is_wanted
    await work.report(0, 40, 0)
    await meter.run(context)
    await meter.run(context)
    row = await work.instance()
    assert not row.is_wanted
    assert fleet.cancels_runs(row)
    assert row.reason.startswith("insufficient_funds: ")
    [alert] = await told(work)
    assert (alert.kind, alert.details["instance_id"]) == ("insufficient_funds", work.instance_id)


async def test_where_what_runs_may_finish_an_instance_is_let_go_and_nothing_canceled(context: Context) -> None:
    work = await begin_work(context.resources, credit=1, when_empty=wallets.FINISH)
    await meter.run(context)
    row = await work.instance()
    assert not row.is_wanted
    assert not fleet.cancels_runs(row)
    assert row.held_nanos == MINUTE


async def test_what_is_leaving_anyway_is_canceled_too_once_nobody_pays(context: Context) -> None:
    work = await begin_work(context.resources, credit=1)
    async with context.resources.database.transaction() as tx:
        await fleet.unwant(tx, work.instance_id, "Idle for 300 s.")
    await meter.run(context)
    assert fleet.cancels_runs(await work.instance())


# --- what starts ------------------------------------------------------------------------------------------------------


async def prepaid(scene: Scene, nanos: int) -> str:
    """The owner of the scene's Model, which is private, may owe so much."""
    async with scene.resources.database.transaction() as tx:
        await make_private(tx, scene.runnable)
        owner_id = await owner_of(tx, scene.runnable)
        await wallets.set_terms(tx, owner_id, credit_limit_nanos=nanos)
    return owner_id


async def test_an_instance_knows_whose_it_is_and_who_pays(scene: Scene, context: Context) -> None:
    owner_id = await prepaid(scene, MINUTE)
    await scene.predict()
    await scale.run(context)
    [row] = await scene.instances()
    assert (row.owner_id, row.model, row.deployment) == (owner_id, scene.runnable.model, None)
    assert row.bills_time


async def test_nothing_starts_without_money_and_who_waits_is_told(scene: Scene, context: Context) -> None:
    owner_id = await prepaid(scene, MINUTE - 1)
    row = await scene.predict()
    await scale.run(context)
    assert await scene.instances() == []
    assert (await scene.prediction(row.id)).queue_reason == UNFUNDED
    async with scene.resources.database.transaction() as tx:
        await wallets.set_terms(tx, owner_id, credit_limit_nanos=MINUTE)
    await scale.run(context)
    assert len(await scene.instances()) == 1


async def test_who_waits_for_busy_slots_is_told_that_the_money_is_short(scene: Scene, context: Context) -> None:
    await prepaid(scene, 0)
    async with scene.resources.database.transaction() as tx:
        await add_instance(tx, scene.node, scene.runnable)
    row = await scene.predict()
    await scene.write(Prediction, row.id, created_at=func.now() - timedelta(hours=1))
    await scale.run(context)
    assert (await scene.prediction(row.id)).queue_reason == f"All slots (1) of this model are busy. {UNFUNDED}"
    assert len(await scene.instances()) == 1


async def test_a_deployment_is_kept_warm_for_as_long_as_its_owner_has_money(scene: Scene, context: Context) -> None:
    deployed = await Deployed.create(scene, minimum=1, maximum=2)
    await scale.run(context)
    [row] = await deployed.instances()
    assert (row.bills_time, row.owner_id, row.model) == (True, scene.account.id, scene.runnable.model)
    assert row.deployment.startswith(f"{scene.account.username}/d-")
    async with scene.resources.database.transaction() as tx:
        await wallets.set_terms(tx, scene.account.id, credit_limit_nanos=0)
    await meter.run(context)
    await scene.write(Instance, row.id, status=InstanceStatus.STOPPED, ended_at=func.now())
    await scale.run(context)
    assert await deployed.instances() == []


async def test_where_callers_pay_for_their_runs_an_owner_without_money_keeps_nobody_from_them(
    scene: Scene, context: Context
) -> None:
    async with scene.resources.database.transaction() as tx:
        owner_id = await owner_of(tx, scene.runnable)
        await wallets.set_terms(tx, owner_id, credit_limit_nanos=0)
    await scene.predict()
    await scale.run(context)
    assert len(await scene.instances()) == 1


# --- capacity ---------------------------------------------------------------------------------------------------------


def test_a_stretch_is_counted_by_this_process_alone_and_not_if_a_pass_comes_too_late() -> None:
    stretch = Stretch()
    assert stretch.micros(100.0) == 0
    stretch.began = 100.0
    assert stretch.micros(110.5) == 10_500_000
    assert stretch.micros(100.0 + meter.MOST_SECONDS + 1) == 0


async def test_devices_that_were_there_are_noted_by_hour_node_and_hardware(scene: Scene, context: Context) -> None:
    gpus = [
        {"uuid": f"GPU-{number}", "name": "Tesla T4", "memory_bytes": 1, "healthy": number != 2, "reason": None}
        for number in range(3)
    ]
    async with scene.resources.database.transaction() as tx:
        await add_node(tx, name="with-gpus", gpus=gpus, max_instances=8)
        await add_node(tx, name="gone", lease_seconds=-1.0)
    meter._stretch.began = None
    await meter.run(context)
    async with scene.resources.database.autocommit() as tx:
        assert await tx.all(select(CapacityHour)) == []
    for _ in range(2):
        meter._stretch.began = meter.monotonic() - 10.0
        await meter.run(context)
    async with scene.resources.database.autocommit() as tx:
        rows = await tx.all(
            select(
                CapacityHour.node,
                CapacityHour.hardware_sku,
                func.max(CapacityHour.devices).label("devices"),
                func.sum(CapacityHour.micros).label("micros"),
            ).group_by(CapacityHour.node, CapacityHour.hardware_sku)
        )
    found = {(row.node, row.hardware_sku): (row.devices, float(row.micros) / MICROS_PER_SECOND) for row in rows}
    assert {key: devices for key, (devices, _) in found.items()} == {
        ("with-gpus", "gpu-t4"): 2,
        ("with-gpus", CPU.sku): 5,
        (scene.node.name, CPU.sku): 8,
    }
    assert all(20 * devices <= seconds < 40 * devices for devices, seconds in found.values())
