"""Each process is killed with -9 at each step of a prediction's path, and started again as its supervisor would.

The steps are found in rows: created and not started, started and silent, has spoken, and ended with its webhook owed.
"""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest
from sqlalchemy import func, select

from cli.processes import PROCESSES
from core.lifecycle import DeliveryStatus, FailureCode, VersionStatus
from core.tables import Version, WebhookDelivery
from tests.faults.load import all_ended, let_claims_run_out, rows_of, until
from tests.faults.recovery import recovery
from tests.support.invariants import check_invariants
from tests.support.platform import PROJECTS, Platform
from tests.support.receiver import Receiver

# Two runtimes would differ in what `test_killed_processes` looks at already.
pytestmark = [pytest.mark.faults, pytest.mark.parametrize("prepared", ["process"], indirect=True)]

Reach = Callable[[Platform, Receiver], Awaitable[str]]
#: Longer than any process takes to die.
RUN_SECONDS = 1.5


async def created(platform: Platform, receiver: Receiver) -> str:
    """It waits: the node, which would start it, stands still."""
    await platform.kill("node", signal.SIGSTOP)
    id = await _create(platform, receiver, "sleeper", seconds=0, text="not yet")
    [row] = await rows_of(platform, [id])
    assert row.status == "starting"
    return id


async def started(platform: Platform, receiver: Receiver) -> str:
    id = await _create(platform, receiver, "sleeper", seconds=RUN_SECONDS, text="silent")
    await until(partial(_is, platform, id, "processing"))
    return id


async def spoken(platform: Platform, receiver: Receiver) -> str:
    id = await _create(platform, receiver, "chatty", count=5, sleep_seconds=RUN_SECONDS / 5)
    await until(partial(_has_spoken, platform, id))
    return id


async def owed(platform: Platform, receiver: Receiver) -> str:
    """Its end is committed, and its webhook not yet sent: the sender stands still."""
    await platform.kill("webhooks", signal.SIGSTOP)
    id = await _create(platform, receiver, "sleeper", seconds=0, text="told late")
    await until(partial(_is_owed, platform, id))
    return id


@pytest.fixture
async def awake(broken: Platform) -> AsyncIterator[Platform]:
    """Its containers are there, and its node and its sender go on afterwards."""
    for model, input in (("sleeper", {"seconds": 0}), ("chatty", {"count": 1, "sleep_seconds": 0})):
        await broken.client.finished((await broken.client.create(f"millrace/{model}", input))["id"])
    yield broken
    for name in ("node", "webhooks"):
        if broken.processes[name].is_running:
            await broken.kill(name, signal.SIGCONT)


@pytest.mark.parametrize("process", [name for name in PROCESSES if name != "jobs"])
@pytest.mark.parametrize("step", [created, started, spoken, owed])
async def test_a_killed_process_loses_nothing_at_any_step(
    awake: Platform, receiver: Receiver, step: Reach, process: str
) -> None:
    id = await step(awake, receiver)
    await awake.kill(process)
    if process != "node":
        await awake.kill("node", signal.SIGCONT)
    with recovery(f"{process} killed once a prediction is {step.__name__}"):
        await awake.restart(process)
        if process != "webhooks":
            await awake.kill("webhooks", signal.SIGCONT)
        [row] = await all_ended(awake, [id])
    if (process, step) == ("node", spoken):
        assert (row.status, row.failure_code) == ("failed", FailureCode.NODE_LOST)
    else:
        assert row.status == "succeeded", row
        assert row.attempt == (2 if (process, step) == ("node", started) else 1)
    await let_claims_run_out(awake)
    await check_invariants(awake, [id], receiver)


async def test_a_killed_job_prepares_its_version_when_it_is_started_again(broken: Platform) -> None:
    await broken.kill("jobs", signal.SIGSTOP)
    model = await broken.publish(PROJECTS / "no-op", "prepared-late")
    await until(partial(_is_being_prepared, broken))
    await broken.kill("jobs")
    with recovery("jobs killed while a version is prepared"):
        await broken.restart("jobs")
        await broken.wait_ready(model)
    ended = await broken.client.finished((await broken.client.create(model, {"text": "late"}))["id"])
    assert ended["status"] == "succeeded"
    await check_invariants(broken, [ended["id"]])


async def _create(platform: Platform, receiver: Receiver, model: str, **input: object) -> str:
    created = await platform.client.create(
        f"millrace/{model}", input, webhook=receiver.url, webhook_events_filter=["completed"]
    )
    return created["id"]


async def _is(platform: Platform, id: str, status: str) -> bool:
    [row] = await rows_of(platform, [id])
    return row.status == status


async def _has_spoken(platform: Platform, id: str) -> bool:
    [row] = await rows_of(platform, [id])
    return bool(row.logs) and row.status == "processing"


async def _is_owed(platform: Platform, id: str) -> bool:
    async with platform.resources.database.autocommit() as tx:
        status = await tx.scalar(select(WebhookDelivery.status).where(WebhookDelivery.prediction_id == id))
    return status == DeliveryStatus.PENDING


async def _is_being_prepared(platform: Platform) -> bool:
    held = Version.status == VersionStatus.PREPARING, Version.prepare_lease_expires_at > func.now()
    async with platform.resources.database.autocommit() as tx:
        return bool(await tx.scalar(select(func.count()).where(*held)))
