"""Each check of the doctor finds what was broken on purpose, names it, and finds nothing where nothing is."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from sqlalchemy import text

from core import deployments, health, predictions, queue
from core.clock import now
from core.deployments import Configuration
from core.doctor import examination
from core.doctor import predictions as doctor_of_predictions
from core.doctor.checks import Finding, NotChecked
from core.ids import new_id
from core.lifecycle import PredictionStatus
from core.predictions import Outcome
from core.resources import Resources
from tests.core.conftest import Scene
from tests.support.factories import add_instance, add_node, add_prediction

# All rows are looked at, and other tests write some that no platform would.
pytestmark = pytest.mark.usefixtures("clean_database")

CHECKS = {check.name: check for check in examination.CHECKS}
#: What is not so where only rows are and no platform runs.
NEEDS_A_PLATFORM = {"leader"}

#: check, what is changed behind the platform's back.
TAMPERING = {
    "running": "UPDATE instances SET status = 'failed', ended_at = now() WHERE id = :instance",
    "deadlines": "UPDATE predictions SET deadline_at = now() - interval '1 hour' WHERE completed_at IS NULL",
    "versions": "UPDATE versions SET status = 'preparing', created_at = now() - interval '1 hour'",
    "ends": "UPDATE predictions SET status = 'succeeded' WHERE id = :running",
    "order": "UPDATE predictions SET completed_at = started_at - interval '1 second' WHERE id = :ended",
    "charged time": "UPDATE predictions SET started_at = completed_at WHERE id = :ended",
    "owners": """
        WITH other AS (SELECT id FROM accounts WHERE id <> :account LIMIT 1)
        UPDATE webhook_deliveries SET account_id = other.id FROM other WHERE prediction_id = :ended
    """,
    "instances": "UPDATE nodes SET lease_expires_at = now() - interval '1 hour'",
    "slots": "UPDATE predictions SET status = 'processing', started_at = created_at, instance_id = :instance",
    "boots": "UPDATE instances SET status = 'pending', created_at = now() - interval '1 hour' WHERE id = :instance",
    "ended instances": "UPDATE instances SET ended_at = now() WHERE id = :instance",
    "nodes": "UPDATE nodes SET lease_expires_at = now() - interval '1 hour'",
    "lost nodes": "UPDATE nodes SET lease_expires_at = now() - interval '1 hour'",
    "node clocks": "UPDATE nodes SET clock_offset_seconds = 3600",
    "overdue deliveries": "UPDATE webhook_deliveries SET next_attempt_at = now() - interval '1 hour'",
    "owed deliveries": "DELETE FROM webhook_deliveries WHERE prediction_id = :ended",
    "attempts": "UPDATE webhook_deliveries SET status = 'given_up' WHERE prediction_id = :ended",
    "books": "UPDATE wallets SET balance_nanos = balance_nanos + 1 WHERE account_id = :account",
    "secret inputs": "UPDATE predictions SET secret_inputs = '{text}' WHERE id = :ended",
    "hashes": """
        INSERT INTO tokens (id, account_id, name, prefix, token_hash, scopes)
        VALUES ('t', :account, '', 'mr_', 'the token itself', '{}')
    """,
    "texts": "UPDATE instances SET setup_logs = 'logged in with mr_' || repeat('0a', 20) WHERE id = :instance",
}


@pytest.fixture
async def broken_by(scene: Scene) -> dict[str, str]:
    """Ids of what there is: an account, its predictions that run, wait and have ended, and their instance."""
    database = scene.resources.database
    waiting, running, ended = [
        await add_prediction(database, scene.account.id, scene.runnable, webhook_url="http://receiver.test/")
        for _ in range(3)
    ]
    async with database.transaction() as tx:
        await predictions.start(tx, running.id, *scene.holder)
        row = await predictions.start(tx, ended.id, *scene.holder)
        await predictions.finish(tx, row.id, row.attempt, Outcome(PredictionStatus.SUCCEEDED, micros=3_000_000))
    await age(scene)
    return {
        "account": scene.account.id,
        "waiting": waiting.id,
        "running": running.id,
        "ended": ended.id,
        "instance": scene.instance_id,
    }


async def age(scene: Scene) -> None:
    """A minute passes: nobody is late yet who has just begun."""
    async with scene.resources.database.transaction() as tx:
        moments = ("created_at", 65), ("started_at", 64), ("completed_at", 60)
        shifts = ", ".join(f"{name} = {name} - interval '{seconds} seconds'" for name, seconds in moments)
        await tx.execute(text(f"UPDATE predictions SET {shifts}"))


async def found(resources: Resources, name: str) -> Sequence[Finding]:
    return await CHECKS[name].find(resources)


@pytest.fixture
def machine(resources: Resources, tmp_path: Path) -> Resources:
    """With a data folder in which nobody has left anything."""
    return replace(resources, settings=resources.settings.model_copy(update={"data": tmp_path}))


async def test_nothing_is_found_where_nothing_is_wrong(machine: Resources, broken_by: dict[str, str]) -> None:
    for result in await examination.examine(machine, again_seconds=0):
        if result.check.name not in NEEDS_A_PLATFORM:
            assert not result.findings, result.findings


@pytest.mark.parametrize("name", TAMPERING)
async def test_what_is_broken_is_found_and_named(scene: Scene, broken_by: dict[str, str], name: str) -> None:
    statement = text(TAMPERING[name])
    async with scene.resources.database.transaction() as tx:
        await tx.execute(statement, {key: id for key, id in broken_by.items() if f":{key}" in TAMPERING[name]})
    findings = await found(scene.resources, name)
    assert findings, f"{name} found nothing"
    for finding in findings:
        assert finding.subject in finding.sentence or name in ("books", "nodes"), finding
        assert finding.sentence.endswith("."), finding


async def test_a_prediction_that_no_queue_knows_is_found(scene: Scene, broken_by: dict[str, str]) -> None:
    await scene.resources.redis.flushall()
    assert [finding.subject for finding in await found(scene.resources, "waiting")] == [broken_by["waiting"]]


async def test_a_prediction_that_no_queue_knows_is_found_behind_however_many_others(
    scene: Scene, broken_by: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_of_predictions, "_AT_ONCE", 2)
    others = [await add_prediction(scene.resources.database, scene.account.id, scene.runnable) for _ in range(4)]
    await age(scene)
    last = others[-1]
    await queue.remove_many(scene.resources.redis, [(last.target, last.account_id, last.id)])
    assert [finding.subject for finding in await found(scene.resources, "waiting")] == [last.id]


@pytest.mark.parametrize(
    ("sharing", "reserved", "is_wrong"),
    [(False, None, True), (True, None, True), (True, 5, False), (True, 6, True)],
)
async def test_a_gpu_that_is_given_twice_is_found_unless_it_is_shared_and_fits(
    scene: Scene, sharing: bool, reserved: int | None, is_wrong: bool
) -> None:
    gpu = {"uuid": "GPU-1", "name": "a GPU", "memory_bytes": 10, "healthy": True, "reason": None}
    async with scene.resources.database.transaction() as tx:
        node = await add_node(tx, gpus=[gpu])
        for _ in range(2):
            id = await add_instance(tx, node, scene.runnable, ("GPU-1",))
            shared = {"sharing": sharing, "reserved": reserved, "id": id}
            await tx.execute(
                text("UPDATE instances SET shares_gpu = :sharing, reserved_bytes = :reserved WHERE id = :id"), shared
            )
    assert bool(await found(scene.resources, "devices")) is is_wrong


async def test_a_gpu_that_two_nodes_have_given_away_is_found(scene: Scene) -> None:
    """Of two that run on one machine, or one that has come back under another name."""
    async with scene.resources.database.transaction() as tx:
        for name in ("old-name", "new-name"):
            await add_instance(tx, await add_node(tx, name=name), scene.runnable, ("GPU-1",))
    [finding] = await found(scene.resources, "devices")
    assert "GPU-1 of node new-name and old-name is given to instances" in finding.sentence


async def test_a_deployment_that_has_more_instances_than_it_may_is_found(scene: Scene) -> None:
    runnable, database = scene.runnable, scene.resources.database
    async with database.transaction() as tx:
        wanted = Configuration(runnable.model, runnable.version_id, runnable.hardware_sku, 0, 1)
        await deployments.create(tx, "d-1", scene.account, "busy", wanted)
        await add_instance(tx, scene.node, runnable)
        await tx.execute(text("UPDATE releases SET created_at = now() - interval '1 hour'"))
        await tx.execute(text("UPDATE instances SET target = target || '@d-1'"))
    [finding] = await found(scene.resources, "slots")
    assert finding.sentence == "Deployment busy has 2 and may have 1: report this as a bug."


async def test_an_unhealthy_gpu_is_found_with_its_reason(scene: Scene) -> None:
    gpu = {"uuid": "GPU-1", "name": "a GPU", "memory_bytes": 10, "healthy": False, "reason": "It fell off the bus."}
    async with scene.resources.database.transaction() as tx:
        await add_node(tx, gpus=[gpu])
    [finding] = await found(scene.resources, "gpus")
    assert finding.sentence.endswith("(GPU-1) takes no new instances: It fell off the bus.")


async def test_a_process_that_is_silent_is_found(machine: Resources) -> None:
    health.beat(machine.settings, "webhooks")
    assert not await found(machine, "processes")
    file = machine.settings.data / "health" / "webhooks"
    long_ago = (now() - timedelta(hours=1)).timestamp()
    os.utime(file, (long_ago, long_ago))
    [finding] = await found(machine, "processes")
    assert finding.sentence.startswith("webhooks was last seen 36")
    file.unlink()
    with pytest.raises(NotChecked):
        await found(machine, "processes")


async def test_a_model_process_of_an_instance_that_is_over_is_found(machine: Resources, scene: Scene) -> None:
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=subprocess.PIPE)
    gone = new_id()
    try:
        for id in (gone, scene.instance_id):
            folder = machine.settings.data / "instances" / id
            folder.mkdir(parents=True)
            record = {"installation": machine.settings.installation, "node": "here", "pid": child.pid}
            (folder / "container.json").write_bytes(orjson.dumps({**record, "instance_id": id}))
        assert [finding.subject for finding in await found(machine, "processes of models")] == [gone]
    finally:
        await child.communicate(b"\n")


async def test_a_secret_in_a_log_is_found_and_not_shown(machine: Resources) -> None:
    log = machine.settings.data / "logs" / "api.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("signed with the secret of this installation\n")
    assert not await found(machine, "logs")
    log.write_text(f"signed with {machine.settings.secret}\n")
    [finding] = await found(machine, "logs")
    log.unlink()
    assert machine.settings.secret not in finding.sentence


async def test_what_has_mended_itself_on_a_second_look_is_not_told(scene: Scene, broken_by: dict[str, str]) -> None:
    calls = []

    async def once(resources: Resources) -> list[Finding]:
        calls.append(1)
        return [Finding("it", "It is so.")] if len(calls) == 1 else [Finding("other", "Another is so.")]

    check = examination.Check("once", "It is never so.", once)
    [result] = await examination.examine(scene.resources, [check], again_seconds=0)
    assert (result.findings, len(calls)) == ([], 2)
