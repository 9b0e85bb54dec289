"""On the whole platform: the life of a private Model's Instance is charged to the second, and its runs are free."""

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy import Row, Select, select, update

from core import fleet
from core.hardware import CPU
from core.money import alerts, folding, prices, wallets
from core.money.pricing import MICROS_PER_SECOND, NANOS_PER_DOLLAR, amount_nanos
from core.tables import Account, Instance, InstanceTime, Model, Prediction, UsageRecord
from tests.api.scene import Scene
from tests.support.client import Client
from tests.support.platform import PROJECTS, Platform

_LOOK_SECONDS = 0.2
#: The meter looks every ten seconds, on a machine that does other things, too.
_BOUND_LOOKS = 600


async def test_the_life_of_a_private_models_instance_is_charged_by_the_second_and_its_runs_are_free(
    platform: Platform,
) -> None:
    account = await Scene(platform.resources).caller()
    model = await own_private_model(platform, account.id, "metered")
    client = Client(platform.api_url, account.token)
    try:
        created = await client.create(model, {"seconds": 0.5})
        assert (await client.finished(created["id"]))["status"] == "succeeded"
    finally:
        await client.close()
    [run] = await rows(platform, select(UsageRecord).where(UsageRecord.cause_id == created["id"]))
    [prediction] = await rows(platform, select(Prediction).where(Prediction.id == created["id"]))
    assert (run.amount_nanos, run.price_nanos_per_second, prediction.price_nanos_per_second) == (0, 0, 0)

    id = prediction.instance_id
    idles = select(InstanceTime).where(InstanceTime.instance_id == id, InstanceTime.phase == "idle")
    await until(lambda: rows(platform, idles))
    async with platform.resources.database.transaction() as tx:
        await fleet.unwant(tx, id, "The test has seen enough.")
    ended = select(Instance).where(Instance.id == id, Instance.ended_at.is_not(None))
    [instance] = await until(lambda: rows(platform, ended))
    recorded = select(UsageRecord).where(UsageRecord.cause_id.startswith(f"{id}:"))
    records = await until(lambda: rows(platform, recorded))
    whole_life_is_charged(instance, records, run)
    assert {record.account_id for record in records} == {account.id}
    assert {record.model for record in records} == {model}


async def test_a_run_is_canceled_when_the_money_for_its_instance_is_used_up(platform: Platform) -> None:
    account = await Scene(platform.resources).caller()
    model = await own_private_model(platform, account.id, "unpaid")
    client = Client(platform.api_url, account.token)
    try:
        async with platform.resources.database.transaction() as tx:
            await wallets.set_terms(tx, account.id, credit_limit_nanos=NANOS_PER_DOLLAR)
        long = await client.create(model, {"seconds": 600})
        await client.until(long["id"], "processing")
        async with platform.resources.database.transaction() as tx:
            own = {"account_id": account.id, "nanos_per_unit": NANOS_PER_DOLLAR, "created_by": "test"}
            await prices.put(tx, kind=prices.HARDWARE, subject=CPU.sku, **own)
        ended = await client.finished(long["id"])
    finally:
        await client.close()
    assert ended["status"] == "canceled"
    assert "insufficient_funds" in ended["error"]
    of_it = select(Instance).where(Instance.owner_id == account.id, Instance.ended_at.is_not(None))
    [instance] = await until(lambda: rows(platform, of_it))
    assert instance.reason.startswith("insufficient_funds: ")
    is_charged = select(UsageRecord).where(UsageRecord.cause_id.startswith(f"{instance.id}:"))
    await until(lambda: rows(platform, is_charged))
    given_back = select(Instance).where(Instance.id == instance.id, Instance.held_nanos == 0)
    await until(lambda: rows(platform, given_back))
    async with platform.resources.database.transaction() as tx:
        await folding.fold(tx, account.id)
        wallet = await wallets.get(tx, account.id)
        told = [alert.kind for alert in await alerts.unseen(tx, account.id)]
    assert -NANOS_PER_DOLLAR <= wallet.balance_nanos < 0
    assert wallet.held_nanos == 0
    assert told == ["insufficient_funds"]


def whole_life_is_charged(instance: Row, records: list[Row], run: Row) -> None:
    charged = {phase: sum(r.micros for r in records if r.phase == phase) for phase in ("setup", "idle", "active")}
    assert charged == {
        "setup": instance.setup_micros,
        "idle": instance.idle_micros,
        "active": instance.active_micros,
    }
    booted = instance.create_seconds + instance.boot_seconds + instance.setup_seconds
    assert 0 < charged["setup"] <= booted * MICROS_PER_SECOND
    assert charged["idle"] > 0
    assert charged["active"] >= run.micros
    life = (instance.ended_at - instance.created_at).total_seconds()
    assert sum(charged.values()) <= life * MICROS_PER_SECOND
    for record in records:
        assert record.price_nanos_per_second == CPU.price_nanos_per_second
        assert record.amount_nanos == amount_nanos(record.micros, CPU.price_nanos_per_second)


async def own_private_model(platform: Platform, account_id: str, name: str) -> str:
    """`owner/name` of a Model that belongs to this account, and that nobody else sees."""
    model = await platform.publish(PROJECTS / "sleeper", name)
    await platform.wait_ready(model)
    async with platform.resources.database.transaction() as tx:
        mine = {"owner_id": account_id, "visibility": "private"}
        await tx.execute(update(Model).where(Model.name == name).values(mine))
        owner = await tx.scalar(select(Account.username).where(Account.id == account_id))
    return f"{owner}/{name}"


async def rows(platform: Platform, statement: Select) -> list[Row]:
    async with platform.resources.database.autocommit() as tx:
        return list(await tx.all(statement))


async def until(found: Callable[[], Awaitable[list[Row]]]) -> list[Row]:
    for _ in range(_BOUND_LOOKS):
        if seen := await found():
            return seen
        await asyncio.sleep(_LOOK_SECONDS)
    raise AssertionError("It has not come about.")
