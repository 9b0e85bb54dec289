"""What a boot took, whoever waited for it; and the memory peaks of what was booted."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from core import boots, fleet, peaks, predictions
from core.catalog import Runnable
from core.database import Transaction
from core.lifecycle import InstanceStatus
from core.resources import Resources
from core.tables import Instance, Version
from tests.support import factories

BOOT = {"pull_seconds": 30.0, "create_seconds": 1.0, "boot_seconds": 4.0, "setup_seconds": 15.0}


@pytest.mark.parametrize(
    ("waited", "phases"),
    [
        (100.0, (30.0, 1.0, 4.0, 15.0)),
        (17.0, (0.0, 0.0, 2.0, 15.0)),
        (5.0, (0.0, 0.0, 0.0, 5.0)),
        (-3.0, (0.0, 0.0, 0.0, 0.0)),
    ],
)
async def test_who_comes_in_the_middle_of_a_boot_waited_for_its_end_only(
    resources: Resources, waited: float, phases: tuple[float, ...]
) -> None:
    async with resources.database.transaction() as tx:
        account, runnable = await factories.add_account(tx), await factories.add_runnable(tx)
        node = await factories.add_node(tx)
        instance_id = await factories.add_instance(tx, node, runnable)
    row = await factories.add_prediction(resources.database, account.id, runnable)
    async with resources.database.transaction() as tx:
        ready_at = row.created_at + timedelta(seconds=waited)
        await tx.execute(update(Instance).where(Instance.id == instance_id).values(ready_at=ready_at, **BOOT))
        started = await predictions.start(tx, row.id, instance_id, node.boot_id)
    assert tuple(round(getattr(started, f"{phase}_seconds"), 6) for phase in boots.PHASES) == phases


async def test_what_a_boot_costs_counts_no_artifact_that_is_there_the_next_time(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        runnable, node = await factories.add_runnable(tx), await factories.add_node(tx)
        instance_id = await factories.add_instance(tx, node, runnable)
        assert boots.cost(await fleet.get_instance(tx, instance_id)) is None
        await tx.execute(update(Instance).where(Instance.id == instance_id).values(**BOOT))
        assert boots.cost(await fleet.get_instance(tx, instance_id)) == 20.0


async def test_logs_of_a_setup_are_written_while_it_goes_on_and_not_after(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        runnable, node = await factories.add_runnable(tx), await factories.add_node(tx)
        instance_id = await factories.add_instance(tx, node, runnable)
        await boots.note_logs(tx, instance_id, "too late")
        assert (await fleet.get_instance(tx, instance_id)).setup_logs == ""
        await tx.execute(update(Instance).where(Instance.id == instance_id).values(status=InstanceStatus.STARTING))
        await boots.note_logs(tx, instance_id, "x" * boots.SETUP_LOG_CHARACTERS + "the end\x00")
        logs = (await fleet.get_instance(tx, instance_id)).setup_logs
    assert logs.endswith("the end\ufffd")
    assert len(logs) == boots.SETUP_LOG_CHARACTERS


async def test_a_peak_only_grows_and_its_version_has_the_highest(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        runnable, node = await factories.add_runnable(tx), await factories.add_node(tx)
        first, second = [await factories.add_instance(tx, node, runnable) for _ in range(2)]
        await has_worked(tx, first, second)
        for used in ({first: 5, second: 3}, {first: 2, second: 7}, {second: 6}):
            await peaks.note(tx, used)
        found = [(await fleet.get_instance(tx, id)).peak_bytes for id in (first, second)]
        assert (found, await peak_of(tx, runnable)) == ([5, 7], 7)


async def test_what_has_only_booted_tells_nothing_of_what_its_version_needs(resources: Resources) -> None:
    """Nor does a driver that says 0."""
    async with resources.database.transaction() as tx:
        runnable, node = await factories.add_runnable(tx), await factories.add_node(tx)
        id = await factories.add_instance(tx, node, runnable)
        await peaks.note(tx, {id: 5})
        assert await peak_of(tx, runnable) is None
        await has_worked(tx, id)
        await peaks.note(tx, {id: 4})
        assert await peak_of(tx, runnable) == 5
        other = await factories.add_runnable(tx)
        silent = await factories.add_instance(tx, node, other)
        await has_worked(tx, silent)
        await peaks.note(tx, {silent: 0})
        assert await peak_of(tx, other) is None


async def has_worked(tx: Transaction, *ids: str) -> None:
    later = func.now() + timedelta(seconds=1)
    await tx.execute(update(Instance).where(Instance.id.in_(ids)).values(last_active_at=later))


async def peak_of(tx: Transaction, runnable: Runnable) -> int | None:
    return await tx.scalar(select(Version.peak_bytes).where(Version.id == runnable.version_id))
