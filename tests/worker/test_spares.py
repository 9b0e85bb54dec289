"""For which Versions a node keeps a container ready, and on which GPUs."""

from collections import namedtuple
from datetime import timedelta

import pytest
from sqlalchemy import Row, select, update

from core import artifacts, fleet
from core.catalog import Runnable
from core.database import Transaction
from core.lifecycle import InstanceStatus
from core.resources import Resources
from core.tables import Instance, Version
from tests.support import factories
from worker.spares import likely_gpus

Expected = namedtuple("Expected", "gpus gpu_model gpu_count gpu_uuids")
H100 = "NVIDIA H100"


def gpu(uuid: str, name: str = H100, parent: str | None = None) -> dict:
    return {"uuid": uuid, "name": name, "parent": parent}


@pytest.mark.parametrize(
    ("gpus", "count", "last", "likely"),
    [
        ([], 0, None, []),
        ([], 0, [], []),
        ([gpu("a")], 1, None, ["a"]),
        ([gpu("a"), gpu("b")], 1, None, None),
        ([gpu("a"), gpu("b")], 1, ["b"], ["b"]),
        ([gpu("a"), gpu("t", "Tesla T4")], 1, None, ["a"]),
        ([gpu("a"), gpu("b")], 2, None, ["a", "b"]),
        ([gpu("a")], 1, ["gone"], ["a"]),
        ([gpu("a"), gpu("m", parent="a")], 1, None, ["m"]),
    ],
)
def test_the_gpus_are_those_of_the_last_one_or_the_only_ones_that_fit(
    gpus: list[dict], count: int, last: list[str] | None, likely: list[str] | None
) -> None:
    assert likely_gpus(Expected(gpus, H100 if count else None, count, last)) == likely


async def add(tx: Transaction) -> tuple[Runnable, str]:
    """A Version that can run, with its artifact."""
    runnable = await factories.add_runnable(tx)
    return runnable, await tx.scalar(select(Version.artifact).where(Version.id == runnable.version_id))


async def expected(resources: Resources, node: Row, limit: int = 9) -> list[str]:
    async with resources.database.autocommit() as tx:
        return [row.id for row in await artifacts.expected(tx, node.id, limit)]


async def test_what_was_used_last_comes_first_and_what_runs_does_not_come(
    resources: Resources, clean_database: None
) -> None:
    async with resources.database.transaction() as tx:
        node = await factories.add_node(tx)
        versions, present = zip(*[await add(tx) for _ in range(4)], strict=True)
        first, second, runs, never = versions
        await artifacts.report(tx, node.id, node.boot_id, present)
        for runnable in (first, second, runs):
            id = await factories.add_instance(tx, node, runnable)
            if runnable is not runs:
                await fleet.move_instance(tx, id, InstanceStatus.READY, InstanceStatus.FAILED, reason="It is over.")
        earlier = Instance.created_at - timedelta(minutes=1)
        await tx.execute(update(Instance).where(Instance.version_id == first.version_id).values(created_at=earlier))
    ids = [runnable.version_id for runnable in (second, first, never)]
    assert await expected(resources, node) == ids
    assert await expected(resources, node, 1) == ids[:1]


async def test_what_is_not_here_yet_is_not_expected(resources: Resources, clean_database: None) -> None:
    async with resources.database.transaction() as tx:
        await add(tx)
        node = await factories.add_node(tx)
    assert await expected(resources, node) == []
