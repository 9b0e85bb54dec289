"""What counts as a crash, and of what: a Version on a Hardware."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, func, update

from core import crashes, fleet
from core.lifecycle import InstanceStatus, NodeFault
from core.tables import Instance
from tests.core.conftest import Scene

HOUR = 3600.0


async def die(scene: Scene, reason: str | None, sku: str | None = None) -> str:
    """An Instance of the scene's Version fails before it is ready."""
    async with scene.resources.database.transaction() as tx:
        id = await fleet.assign(
            tx,
            node_id=scene.node.id,
            target=scene.runnable.target,
            version_id=scene.runnable.version_id,
            hardware_sku=sku or scene.runnable.hardware_sku,
            slots=1,
            gpu_uuids=(),
        )
        await fleet.move_instance(tx, id, InstanceStatus.PENDING, InstanceStatus.FAILED)
        await tx.execute(update(Instance).where(Instance.id == id).values(reason=reason))
    return id


async def found(scene: Scene) -> Sequence[Row]:
    async with scene.resources.database.autocommit() as tx:
        return await crashes.of(tx, [scene.runnable.version_id], HOUR)


async def test_a_death_that_nobody_explains_is_one_too(scene: Scene) -> None:
    await is_ready(scene, None)
    id = await die(scene, None)
    [crash] = await found(scene)
    assert (crash.id, crash.reason) == (id, "It does not say why.")


async def test_a_node_that_dies_says_nothing_of_a_version(scene: Scene) -> None:
    await is_ready(scene, None)
    for fault in NodeFault:
        await die(scene, fault)
    assert not await found(scene)


async def test_what_works_on_one_hardware_may_be_too_large_for_another(scene: Scene) -> None:
    await die(scene, "It exited with code 1.")
    id = await die(scene, "Out of memory.", sku="gpu-small")
    await is_ready(scene, func.now())
    [crash] = await found(scene)
    assert (crash.id, crash.hardware_sku) == (id, "gpu-small")


async def is_ready(scene: Scene, since: Any) -> None:
    """The scene's own Instance, on its own Hardware."""
    async with scene.resources.database.transaction() as tx:
        await tx.execute(update(Instance).where(Instance.id == scene.instance_id).values(ready_at=since))
