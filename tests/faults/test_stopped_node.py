"""A node that is stopped past its lease, and then goes on as if nothing had happened: SIGSTOP, SIGCONT."""

import asyncio
import signal
from functools import partial

import pytest
from sqlalchemy import func, select, update

from core.lifecycle import FailureCode
from core.tables import Instance, Node, Prediction
from tests.faults.load import all_ended, rows_of, until
from tests.faults.recovery import recovery
from tests.support.invariants import check_invariants
from tests.support.platform import Platform
from tests.support.receiver import Receiver

pytestmark = pytest.mark.faults

#: Longer than it takes to stop the node, shorter than its lease: both end while the node is stopped.
RUN_SECONDS = 5.0


@pytest.mark.parametrize("prepared", ["process"], indirect=True)
async def test_a_late_result_is_refused_and_each_prediction_has_one_outcome(
    broken: Platform, receiver: Receiver
) -> None:
    await _boot(broken)
    silent = await broken.client.create(
        "millrace/sleeper", {"text": "silent", "seconds": RUN_SECONDS}, webhook=receiver.url
    )
    talking = await broken.client.create(
        "millrace/chatty", {"count": 4, "sleep_seconds": RUN_SECONDS / 4}, webhook=receiver.url
    )
    ids = [silent["id"], talking["id"]]
    await broken.client.until(silent["id"], "processing")
    await until(partial(_has_spoken, broken, talking["id"]))
    await broken.kill("node", signal.SIGSTOP)
    await _let_the_lease_run_out(broken)
    await until(partial(_are_rescued, broken, ids))
    assert await _instances_of(broken, ids) == {"failed"}
    # Both containers have long finished when the node wakes up with their results in its sockets.
    await asyncio.sleep(RUN_SECONDS)
    with recovery("node stopped past its lease"):
        await broken.kill("node", signal.SIGCONT)
        await broken.ended("node")
        await broken.restart("node")
        rows = {row.id: row for row in await all_ended(broken, ids)}
    again, lost = rows[silent["id"]], rows[talking["id"]]
    assert (again.status, again.attempt, again.output) == ("succeeded", 2, "silent")
    assert (lost.status, lost.attempt, lost.failure_code) == ("failed", 1, FailureCode.NODE_LOST)
    await check_invariants(broken, ids, receiver)


async def _boot(platform: Platform) -> None:
    """So that both begin at once."""
    first = await platform.client.create("millrace/sleeper", {"seconds": 0})
    second = await platform.client.create("millrace/chatty", {"count": 1, "sleep_seconds": 0})
    for prediction in (first, second):
        await platform.client.finished(prediction["id"])


async def _has_spoken(platform: Platform, id: str) -> bool:
    return bool((await platform.client.get(id))["logs"])


async def _are_rescued(platform: Platform, ids: list[str]) -> bool:
    return all(row.status != "processing" for row in await rows_of(platform, ids))


async def _let_the_lease_run_out(platform: Platform) -> None:
    async with platform.resources.database.transaction() as tx:
        await tx.execute(update(Node).values(lease_expires_at=func.now()))


async def _instances_of(platform: Platform, ids: list[str]) -> set[str]:
    """The statuses of those that ran them."""
    holders = select(Prediction.instance_id).where(Prediction.id.in_(ids))
    async with platform.resources.database.autocommit() as tx:
        return {row.status for row in await tx.all(select(Instance.status).where(Instance.id.in_(holders)))}
