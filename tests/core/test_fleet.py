"""Nodes live one life at a time, and an Instance moves along its edges only."""

import itertools

import pytest
from sqlalchemy import Row

from core import crashes, fleet
from core.lifecycle import INSTANCE_EDGES, InstanceStatus, NodeFault
from core.redis import node_channel
from tests.core.conftest import Scene
from tests.support.factories import add_instance, add_node


async def now(scene: Scene, id: str) -> Row:
    async with scene.resources.database.autocommit() as tx:
        return await fleet.get_instance(tx, id)


@pytest.mark.parametrize(("old", "new"), list(itertools.permutations(InstanceStatus, 2)))
async def test_an_instance_moves_along_its_edges_only(scene: Scene, old: InstanceStatus, new: InstanceStatus) -> None:
    """It is ready: from any other state it does not move, and where there is no edge the caller is wrong."""
    async with scene.resources.database.transaction() as tx:
        if (old, new) in INSTANCE_EDGES:
            moved = await fleet.move_instance(tx, scene.instance_id, old, new)
            assert moved == (old is InstanceStatus.READY)
        else:
            with pytest.raises(AssertionError, match="is no edge"):
                await fleet.move_instance(tx, scene.instance_id, old, new)
    after = await now(scene, scene.instance_id)
    assert after.status == (new if (old, new) in INSTANCE_EDGES and old is InstanceStatus.READY else "ready")
    assert (after.ended_at is not None) == InstanceStatus(after.status).is_terminal


async def test_a_node_that_is_reborn_ends_its_earlier_life(scene: Scene) -> None:
    async with scene.resources.database.transaction() as tx:
        reborn = await add_node(tx, name=scene.node.name)
        assert reborn.id == scene.node.id
        assert not await fleet.heartbeat(tx, scene.node.id, scene.node.boot_id, [], 60.0)
        assert await fleet.heartbeat(tx, reborn.id, reborn.boot_id, [], 60.0)
        await fleet.release_lease(tx, scene.node.id, scene.node.boot_id)
        assert await fleet.holder_alive(tx, scene.node.name), "an earlier life cannot give up a later one's lease"


async def test_a_late_node_may_report_until_it_is_declared_lost(scene: Scene) -> None:
    async with scene.resources.database.transaction() as tx:
        late = await add_node(tx, lease_seconds=-1.0)
        assert await fleet.heartbeat(tx, late.id, late.boot_id, [], -1.0)
        await fleet.declare_lost(tx)
        assert not await fleet.heartbeat(tx, late.id, late.boot_id, [], 60.0)
        assert not await fleet.holder_alive(tx, late.name)
    assert (await now(scene, scene.instance_id)).status == InstanceStatus.READY


async def test_what_a_lost_node_held_has_failed_through_no_fault_of_its_version(scene: Scene) -> None:
    async with scene.resources.database.transaction() as tx:
        late = await add_node(tx, lease_seconds=-1.0)
        id = await add_instance(tx, late, scene.runnable)
        assert await fleet.declare_lost(tx) == [id]
        assert await fleet.declare_lost(tx) == []
        assert await crashes.of(tx, [scene.runnable.version_id], 60.0) == []
    assert (await now(scene, id)).reason == NodeFault.LOST


async def test_a_node_is_told_of_what_is_wanted_and_no_longer_wanted(scene: Scene) -> None:
    async with scene.resources.redis.pubsub() as channel:
        await channel.subscribe(node_channel(scene.node.id))
        await channel.get_message(timeout=5)
        async with scene.resources.database.transaction() as tx:
            id = await add_instance(tx, scene.node, scene.runnable)
        async with scene.resources.database.transaction() as tx:
            await fleet.unwant(tx, id, "Idle.")
            await fleet.unwant(tx, id, "Idle again.")
        messages = [await channel.get_message(ignore_subscribe_messages=True, timeout=5) for _ in range(2)]
        assert [message["data"] for message in messages] == ["converge", "converge"]
        assert await channel.get_message(ignore_subscribe_messages=True, timeout=0) is None
    assert (await now(scene, id)).reason == "Idle."


async def test_long_setup_logs_keep_their_end_and_nul_is_replaced(scene: Scene) -> None:
    async with scene.resources.database.transaction() as tx:
        logs = "x" * 100_000 + "the \x00 end"
        await fleet.move_instance(tx, scene.instance_id, InstanceStatus.READY, InstanceStatus.FAILED, setup_logs=logs)
    kept = (await now(scene, scene.instance_id)).setup_logs
    assert len(kept) == 64_000
    assert kept.endswith("the \ufffd end")
