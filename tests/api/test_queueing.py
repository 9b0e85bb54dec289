"""What a waiting prediction says: how many are ahead, why, for about how long; and later, what it waited for."""

from datetime import timedelta

import httpx
from sqlalchemy import update

from core import demand, predictions, queue
from core.demand import Pace
from core.lifecycle import InstanceStatus
from core.resources import Resources
from core.tables import Instance, Prediction
from tests.api.conftest import client_of
from tests.api.scene import Caller, Published, Scene

PHASES = ("queue_time", "pull_time", "create_time", "boot_time", "setup_time")


async def create(client: httpx.AsyncClient, published: Published) -> str:
    body = {"version": published.version, "input": {"text": "Ada"}}
    return (await client.post("/v1/predictions", json=body)).json()["id"]


async def standing(client: httpx.AsyncClient, id: str) -> dict:
    return (await client.get(f"/v1/predictions/{id}")).json()["queue"]


async def test_it_counts_who_is_taken_before_it_and_gives_the_reason(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await scene.publish(caller)
    ids = [await create(client, published) for _ in range(3)]
    async with resources.database.autocommit() as tx:
        await demand.explain(tx, published.target, "All slots (1) of this model are busy.")
    assert [(await standing(client, id))["position"] for id in ids] == [0, 1, 2]
    assert (await standing(client, ids[0]))["reason"] == "All slots (1) of this model are busy."
    await client.post(f"/v1/predictions/{ids[0]}/cancel")
    assert [(await standing(client, id))["position"] for id in ids[1:]] == [0, 1]


async def test_another_accounts_backlog_is_one_turn(
    api, client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published, other = await scene.publish(caller), await scene.caller()
    async with client_of(api, other.token) as busy:
        for _ in range(5):
            await create(busy, published)
    assert (await standing(client, await create(client, published)))["position"] == 1


async def test_what_is_running_or_over_has_no_queue(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    id = await create(client, await scene.publish(caller))
    row = await scene.start(id)
    assert "queue" not in (await client.get(f"/v1/predictions/{id}")).json()
    await scene.finish(row, "hello")
    assert "queue" not in (await client.get(f"/v1/predictions/{id}")).json()


async def test_in_no_queue_it_has_no_position(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    """A slot has taken it a moment ago, or Redis was lost and the sweep has not been round yet."""
    published = await scene.publish(caller)
    id = await create(client, published)
    await queue.take(resources.redis, published.target, 1)
    assert await standing(client, id) == {"position": None, "reason": None, "estimated_seconds": None}


def test_the_estimate_follows_from_runs_slots_and_boots() -> None:
    assert Pace(slots=2, run_seconds=10.0, boot_seconds=None).estimate(3) == 20.0
    assert Pace(slots=0, run_seconds=10.0, boot_seconds=60.0).estimate(3) == 90.0
    assert Pace(slots=0, run_seconds=None, boot_seconds=60.0).estimate(3) == 60.0
    assert Pace(slots=0, run_seconds=10.0, boot_seconds=None).estimate(0) is None
    assert Pace(slots=1, run_seconds=None, boot_seconds=5.0).estimate(0) is None


async def test_the_pace_is_that_of_the_latest_runs(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await scene.publish(caller)
    for micros in (1_000_000, 3_000_000):
        await scene.finish(await scene.start(await create(client, published)), "hello", micros=micros)
    await queue.take(resources.redis, published.target, 2)
    async with resources.database.autocommit() as tx:
        pace = await demand.pace(tx, published.target, published.version)
    assert (pace.slots, pace.run_seconds) == (2, 2.0)
    assert (await standing(client, await create(client, published)))["estimated_seconds"] == 1.0


async def test_afterwards_it_says_what_it_waited_for(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    """The phases do not overlap, and with the run they make up its whole time."""
    published = await scene.publish(caller)
    id = await create(client, published)
    async with resources.database.autocommit() as tx:
        created = await predictions.find(tx, id)
        earlier = {"created_at": created.created_at - timedelta(seconds=100)}
        await tx.execute(update(Prediction).where(Prediction.id == id).values(**earlier))
    row = await scene.start(id)
    async with resources.database.autocommit() as tx:
        boots = {"created_at": created.created_at - timedelta(seconds=70)}
        boots |= {"pull_seconds": 25.0, "create_seconds": 5.0, "boot_seconds": 10.0, "setup_seconds": 20.0}
        boots |= {"ready_at": created.created_at - timedelta(seconds=10), "status": InstanceStatus.READY}
        await tx.execute(update(Instance).where(Instance.id == row.instance_id).values(**boots))
        waiting = {"status": "starting", "started_at": None, "instance_id": None}
        await tx.execute(update(Prediction).where(Prediction.id == id).values(**waiting))
        row = await predictions.start(tx, id, row.instance_id, row.node_boot_id)
    await scene.finish(row, "hello", micros=250_000)
    metrics = (await client.get(f"/v1/predictions/{id}")).json()["metrics"]
    assert (metrics["pull_time"], metrics["create_time"]) == (25.0, 5.0)
    assert (metrics["boot_time"], metrics["setup_time"], metrics["predict_time"]) == (10.0, 20.0, 0.25)
    # 30 s before the container was begun, and 10 s after it was ready.
    assert 40.0 <= metrics["queue_time"] < 50.0
    assert metrics["total_time"] >= sum(seconds for phase, seconds in metrics.items() if phase in PHASES)


async def test_a_container_that_was_there_already_cost_no_boot(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await scene.publish(caller)
    row = await scene.start(await create(client, published))
    await scene.finish(row, "hello")
    id = await create(client, published)
    async with resources.database.autocommit() as tx:
        row = await predictions.start(tx, id, row.instance_id, row.node_boot_id)
    await scene.finish(row, "hello")
    metrics = (await client.get(f"/v1/predictions/{id}")).json()["metrics"]
    assert [metrics[phase] for phase in PHASES[1:]] == [0, 0, 0, 0]
