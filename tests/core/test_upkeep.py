"""What an operator asks of nodes, instances and versions is done, told, and on record."""

from typing import Any

import pytest
from sqlalchemy import Row, select

from core import catalog, events, upkeep, versions
from core.errors import Conflict, NotFound
from core.people import accounts
from core.tables import AuditEvent, Model, Node, Version
from tests.core.conftest import Scene
from tests.support.factories import add_node

ACTOR = "operator somebody"


async def read(scene: Scene, table: Any, id: str) -> Row:
    async with scene.resources.database.autocommit() as tx:
        return await tx.one(select(table).where(table.id == id))


async def audited(scene: Scene, target: str) -> list[Row]:
    async with scene.resources.database.autocommit() as tx:
        statement = select(AuditEvent).where(AuditEvent.target == target).order_by(AuditEvent.number)
        return list(await tx.all(statement))


async def reasons(scene: Scene, subject: str) -> list[str]:
    async with scene.resources.database.autocommit() as tx:
        return [event.reason for event in await events.of(tx, subject) if event.actor == ACTOR]


async def test_a_node_is_cordoned_drained_and_opened_again_and_each_is_on_record_once(scene: Scene) -> None:
    name, subject = scene.node.name, events.node(scene.node.name)
    async with scene.resources.database.transaction() as tx:
        for _ in range(2):
            await upkeep.cordon(tx, name, True, ACTOR)
        await upkeep.drain_node(tx, name, 60.0, ACTOR)
    row = await read(scene, Node, scene.node.id)
    assert row.is_cordoned
    assert row.drain_deadline_at is not None
    async with scene.resources.database.transaction() as tx:
        await upkeep.cordon(tx, name, False, ACTOR)
        await upkeep.undrain_node(tx, name, ACTOR)
    row = await read(scene, Node, scene.node.id)
    assert (row.is_cordoned, row.drain_deadline_at) == (False, None)
    actions = [event.action for event in await audited(scene, subject)]
    assert actions == ["node.cordon", "node.drain", "node.uncordon", "node.undrain"]
    assert len(await reasons(scene, subject)) == 4


async def test_what_an_operator_wants_of_a_node_outlives_its_life(scene: Scene) -> None:
    async with scene.resources.database.transaction() as tx:
        await upkeep.cordon(tx, scene.node.name, True, ACTOR)
        await upkeep.drain_node(tx, scene.node.name, 60.0, ACTOR)
        await upkeep.share(tx, scene.node.name, True, ACTOR)
        await upkeep.label(tx, scene.node.name, {"zone": "a"}, ACTOR)
        reborn = await add_node(tx, name=scene.node.name)
    assert (reborn.is_cordoned, reborn.shares_gpus, reborn.labels) == (True, True, {"zone": "a"})
    assert reborn.drain_deadline_at is not None


async def test_labels_are_merged_and_none_takes_one_away(scene: Scene) -> None:
    name = scene.node.name
    async with scene.resources.database.transaction() as tx:
        await upkeep.label(tx, name, {"zone": "a", "disk": "fast"}, ACTOR)
        assert await upkeep.label(tx, name, {"zone": "b", "disk": None, "not": None}, ACTOR) == {"zone": "b"}
        assert await upkeep.label(tx, name, {"zone": None}, ACTOR) == {}
    assert await reasons(scene, events.node(name)) == [
        "Its labels are disk=fast, zone=a.",
        "Its labels are zone=b.",
        "It has no labels.",
    ]


async def test_an_instance_drains_within_what_it_was_allowed_and_never_longer(scene: Scene) -> None:
    database = scene.resources.database
    async with database.transaction() as tx:
        await upkeep.drain_instance(tx, scene.instance_id, 60.0, "Its disk is to be replaced.", ACTOR)
    async with database.transaction() as tx:
        with pytest.raises(Conflict, match="sooner"):
            await upkeep.drain_instance(tx, scene.instance_id, 600.0, "Again.", ACTOR)
    async with database.transaction() as tx:
        await upkeep.drain_instance(tx, scene.instance_id, 5.0, "At once.", ACTOR)
    assert await reasons(scene, events.instance(scene.instance_id)) == [
        "No longer wanted. Its disk is to be replaced.",
        "No longer wanted. At once.",
    ]


async def test_what_is_not_there_is_not_found(scene: Scene) -> None:
    async with scene.resources.database.transaction() as tx:
        with pytest.raises(NotFound, match="no node nowhere"):
            await upkeep.cordon(tx, "nowhere", True, ACTOR)
        with pytest.raises(NotFound, match="no instance nothing"):
            await upkeep.drain_instance(tx, "nothing", 1.0, "x", ACTOR)


async def test_a_version_is_placed_and_the_next_one_of_its_model_as_well(scene: Scene) -> None:
    async with scene.resources.database.transaction() as tx:
        version = await catalog.get_version(tx, scene.runnable.version_id)
        owner = await accounts.by_username(tx, scene.runnable.model.split("/")[0])
        model = await catalog.get_model(tx, owner.id, *scene.runnable.model.split("/"))
        await versions.place(tx, model, version.id, node_labels={"zone": "a", "disk": "fast"}, is_pinned=True)
        placed = await versions.place(tx, model, version.id, node_labels={"disk": None}, shares_gpu=True)
        assert (placed.node_labels, placed.is_pinned, placed.shares_gpu) == ({"zone": "a"}, True, True)
        id = await catalog.publish(
            tx,
            model.id,
            "bundle",
            "another",
            config={},
            cog_version="",
            slots=1,
            timeout_seconds=1,
            setup_timeout_seconds=1,
        )
    new = await read(scene, Version, id)
    assert (new.node_labels, new.is_pinned, new.shares_gpu) == ({"zone": "a"}, True, True)
    assert (await read(scene, Model, model.id)).latest_version_id == id
    actions = [event.action for event in await audited(scene, f"version:{scene.runnable.model}:{version.id}")]
    assert actions == ["version.place", "version.place"]
