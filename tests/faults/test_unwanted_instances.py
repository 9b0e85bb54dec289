"""Instances that nobody wants any more, whatever they do and wherever their node is: no container stays behind, and
none is said to be gone while it is there."""

import asyncio
import time
from functools import partial

import pytest
from sqlalchemy import Row, func, select, update

from core import fleet
from core.lifecycle import LIVE_INSTANCE, InstanceStatus
from core.tables import Instance, Node
from tests.faults.load import END_SECONDS, all_ended, rows_of, until
from tests.faults.recovery import recovery
from tests.support.invariants import check_invariants
from tests.support.platform import PROJECTS, Platform

pytestmark = pytest.mark.faults

only_processes = pytest.mark.parametrize("prepared", ["process"], indirect=True)
#: It would set up for ten minutes.
SLOW = "slow-setup"
#: Others come meanwhile.
RUN_SECONDS = 4.0
_LOOK_SECONDS = 0.02


@pytest.fixture
async def slow(broken: Platform) -> str:
    if not (broken.settings.data / "projects" / SLOW).exists():
        files = {"misbehave-in-setup": "sleep"}
        await broken.wait_ready(await broken.publish(PROJECTS / "misbehaving", SLOW, files=files))
    return f"millrace/{SLOW}"


@only_processes
@pytest.mark.parametrize("has_container", [False, True], ids=["wanted a moment ago", "setting up"])
async def test_a_boot_that_is_called_off_leaves_no_container_and_holds_nothing(
    broken: Platform, slow: str, has_container: bool
) -> None:
    created = await broken.client.create(slow, {"how": "raise"})
    await until(partial(_boots, broken, created["id"]))
    [instance] = await _instances(broken, created["id"])
    if has_container:
        await until(partial(_has_container, broken, instance.id))
    await broken.client.cancel(created["id"])
    await _unwant(broken, instance.id)
    await _gone_for_good(broken, instance.id)
    assert (await _instance(broken, instance.id)).status == InstanceStatus.STOPPED
    await check_invariants(broken, [created["id"]])


async def test_an_instance_has_ended_only_once_its_container_is_gone(broken: Platform) -> None:
    ids = [await _runs(broken)]
    [row] = await rows_of(broken, ids)
    await _unwant(broken, row.instance_id)
    await _gone_for_good(broken, row.instance_id)
    assert (await _instance(broken, row.instance_id)).status == InstanceStatus.STOPPED
    await check_invariants(broken, [*ids, await _runs(broken)])


async def test_what_an_instance_runs_when_it_is_let_go_ends_there_and_what_comes_runs_elsewhere(
    broken: Platform,
) -> None:
    ids = [await _runs(broken)]
    leaving = await _create(broken, "leaving", RUN_SECONDS)
    await broken.client.until(leaving, "processing")
    [before] = await rows_of(broken, [leaving])
    await _unwant(broken, before.instance_id)
    ids += [leaving, *[await _create(broken, "late", 0) for _ in range(5)]]
    ended, *late = sorted(await all_ended(broken, ids[1:]), key=lambda row: row.id != leaving)
    assert (ended.status, ended.attempt, ended.instance_id) == ("succeeded", 1, before.instance_id)
    assert {(row.status, row.attempt, row.output) for row in late} == {("succeeded", 1, "late")}
    assert before.instance_id not in {row.instance_id for row in late}
    await check_invariants(broken, ids)


@only_processes
@pytest.mark.parametrize("late_by", [0.0, 0.03, 0.1, 0.5])
async def test_whoever_calls_as_the_last_instance_goes_is_served(broken: Platform, late_by: float) -> None:
    ids = [await _runs(broken)]
    [row] = await rows_of(broken, ids)
    await _unwant(broken, row.instance_id)
    await asyncio.sleep(late_by)
    ids += [await _create(broken, "first", 0)]
    [served] = await all_ended(broken, ids[1:])
    assert (served.status, served.attempt, served.output) == ("succeeded", 1, "first")
    await check_invariants(broken, ids)


async def test_what_is_stopped_while_its_node_is_away_goes_when_that_is_back(broken: Platform) -> None:
    ids = [await _runs(broken)]
    [row] = await rows_of(broken, ids)
    await broken.kill("node")
    await _unwant(broken, row.instance_id)
    assert await _has_container(broken, row.instance_id), "nobody is there to remove it"
    with recovery("instance let go while its node was away"):
        await broken.restart("node")
        await _gone_for_good(broken, row.instance_id)
    await check_invariants(broken, [*ids, await _runs(broken)])


async def test_what_was_given_up_while_its_node_was_away_goes_before_that_begins_anew(broken: Platform) -> None:
    """The row has ended, so that nothing points at the container any more but its labels."""
    ids = [await _runs(broken)]
    [row] = await rows_of(broken, ids)
    await broken.kill("node")
    async with broken.resources.database.transaction() as tx:
        await tx.execute(update(Node).values(lease_expires_at=func.now()))
    await until(partial(_has_ended, broken, row.instance_id))
    assert await _has_container(broken, row.instance_id), "nobody is there to remove it"
    await broken.restart("node")
    assert not await _has_container(broken, row.instance_id)
    await check_invariants(broken, [*ids, await _runs(broken)])


async def _create(platform: Platform, text: str, seconds: float) -> str:
    return (await platform.client.create("millrace/sleeper", {"text": text, "seconds": seconds}))["id"]


async def _runs(platform: Platform) -> str:
    id = await _create(platform, "here", 0)
    ended = await platform.client.finished(id)
    assert ended["output"] == "here", ended
    return id


async def _unwant(platform: Platform, instance_id: str) -> None:
    async with platform.resources.database.transaction() as tx:
        await fleet.unwant(tx, instance_id, "A test wants it gone.")


async def _gone_for_good(platform: Platform, instance_id: str) -> None:
    """Until it has ended; at no moment before is its container there, and its row says otherwise."""
    deadline = time.monotonic() + END_SECONDS
    while not (await _instance(platform, instance_id)).ended_at:
        assert time.monotonic() < deadline, await _instance(platform, instance_id)
        await asyncio.sleep(_LOOK_SECONDS)
    assert not await _has_container(platform, instance_id), "its row said that it was gone"


async def _instances(platform: Platform, prediction_id: str) -> list[Row]:
    """Those that live and would run it."""
    [row] = await rows_of(platform, [prediction_id])
    chosen = select(Instance).where(Instance.target == row.target, Instance.status.in_(LIVE_INSTANCE))
    async with platform.resources.database.autocommit() as tx:
        return list(await tx.all(chosen))


async def _instance(platform: Platform, instance_id: str) -> Row:
    async with platform.resources.database.autocommit() as tx:
        return await fleet.get_instance(tx, instance_id)


async def _boots(platform: Platform, prediction_id: str) -> bool:
    return len(await _instances(platform, prediction_id)) == 1


async def _has_container(platform: Platform, instance_id: str) -> bool:
    return instance_id in await asyncio.to_thread(platform.instances_with_containers)


async def _has_ended(platform: Platform, instance_id: str) -> bool:
    return bool((await _instance(platform, instance_id)).ended_at)
