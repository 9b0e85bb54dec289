"""Models that raise, die, never get ready or will not stop: the reason is on the prediction, and the next one runs."""

import signal
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from core import crashes
from core.lifecycle import FailureCode
from tests.faults.load import rows_of, until
from tests.faults.recovery import recovery
from tests.support.client import FINISH_SECONDS
from tests.support.invariants import check_invariants
from tests.support.platform import PROJECTS, Platform

pytestmark = pytest.mark.faults

MODEL = "millrace/misbehaving"
#: On a busy machine a model says its first word after seconds.
SETUP_TIMEOUT_SECONDS = 6
RUN_TIMEOUT_SECONDS = 2


@pytest.fixture(scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """With a `misbehaving` that predicts, and three whose setup misbehaves; runs and setups soon time out."""
    async with Platform(tmp_path_factory.mktemp("misbehaving"), cancel_grace_seconds=1.0) as platform:
        project = PROJECTS / "misbehaving"
        models = [await platform.publish(project)]
        for how in ("raise", "os_exit", "sleep"):
            # The others have time to do wrong what they are to do wrong, on a busy machine too.
            timeouts = {"setup_timeout_seconds": SETUP_TIMEOUT_SECONDS} if how == "sleep" else {}
            files = {"misbehave-in-setup": how}
            models.append(await platform.publish(project, f"setup-{how}", files=files, **timeouts))
        quick = {"prediction_timeout_seconds": RUN_TIMEOUT_SECONDS}
        models.append(await platform.publish(PROJECTS / "sleeper", **quick))
        await platform.wait_ready(*models)
        yield platform


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ("raise", FailureCode.MODEL, "misbehaving was asked to raise"),
        ("os_exit", FailureCode.CONTAINER_LOST, "process"),
        ("kill", FailureCode.CONTAINER_LOST, "process"),
    ],
)
async def test_a_model_that_breaks_fails_its_own_prediction_only(
    platform: Platform, how: str, code: FailureCode, words: str
) -> None:
    first = await platform.client.create(MODEL, {"how": how})
    ended = await platform.client.finished(first["id"])
    assert ended["status"] == "failed"
    assert words in ended["error"]
    if how == "raise":  # Cog loses what a process printed in the moment before it died.
        assert f"about to {how}" in ended["logs"]
    [row] = await rows_of(platform, [first["id"]])
    assert row.failure_code == code
    with recovery(f"model that did {how}"):
        second = await _next_one_runs(platform)
    await check_invariants(platform, [first["id"], second["id"]])


async def test_a_model_whose_setup_fails_hangs_or_dies_is_given_up_with_its_reason(platform: Platform) -> None:
    expected = {
        "setup-raise": "misbehaving was asked to raise",
        "setup-os_exit": "",
        "setup-sleep": f"not ready after {SETUP_TIMEOUT_SECONDS} s",
    }
    created = {name: await platform.client.create(f"millrace/{name}", {"how": "raise"}) for name in expected}
    for name, words in expected.items():
        ended = await platform.client.finished(created[name]["id"], seconds=2 * FINISH_SECONDS)
        assert ended["status"] == "failed"
        assert "containers of this version failed to start" in ended["error"]
        assert words in ended["error"]
        if name == "setup-sleep":  # Cog loses what a process printed in the moment before it raised or died.
            assert "in setup" in ended["logs"], ended
    rows = await rows_of(platform, [prediction["id"] for prediction in created.values()])
    assert {row.failure_code for row in rows} == {FailureCode.SETUP}
    await check_invariants(platform, [row.id for row in rows])


async def test_a_model_that_ignores_cancel_is_ended_after_the_grace(platform: Platform) -> None:
    created = await platform.client.create(MODEL, {"how": "ignore_cancel"})
    await platform.client.until(created["id"], "processing")
    await platform.client.cancel(created["id"])
    ended = await platform.client.finished(created["id"])
    assert (ended["status"], ended["error"]) == ("canceled", None)
    with recovery("model that ignored its cancel, after its grace"):
        second = await _next_one_runs(platform)
    [row] = await rows_of(platform, [created["id"]])
    async with platform.resources.database.autocommit() as tx:
        died = await crashes.of(tx, [row.version_id], 3600.0)
    # We have ended it ourselves: nobody else is to wait longer for that.
    assert row.instance_id not in {instance.id for instance in died}
    await check_invariants(platform, [created["id"], second["id"]])


async def test_a_run_that_takes_too_long_is_stopped_and_says_so(platform: Platform) -> None:
    created = await platform.client.create("millrace/sleeper", {"seconds": 600})
    ended = await platform.client.finished(created["id"])
    assert ended["status"] == "failed"
    assert ended["error"] == f"Prediction timed out after {RUN_TIMEOUT_SECONDS} seconds."
    [row] = await rows_of(platform, [created["id"]])
    assert row.failure_code == FailureCode.TIMEOUT
    await check_invariants(platform, [created["id"]])


async def test_a_node_that_restarts_takes_no_container_that_still_runs_something(platform: Platform) -> None:
    first = await platform.client.create(MODEL, {"how": "ignore_cancel"})
    await until(partial(_has_spoken, platform, first["id"]))  # So that it fails, and does not run again.
    with recovery("node restarted under what still runs"):
        await platform.restart("node")
        second = await _next_one_runs(platform)
    ended = await platform.client.finished(first["id"])
    assert ended["status"] == "failed"
    await check_invariants(platform, [first["id"], second["id"]])


async def test_stopping_the_node_while_containers_boot_and_run_leaves_none(platform: Platform) -> None:
    running = await platform.client.create(MODEL, {"how": "sleep", "seconds": 600})
    await platform.client.until(running["id"], "processing")
    booting = await platform.client.create("millrace/sleeper", {"text": "later", "seconds": 0})
    await until(partial(_run, platform, 2))
    await platform.kill("node", signal.SIGTERM)
    assert not platform.containers()
    with recovery("node stopped under what boots and runs"):
        await platform.restart("node")
        assert (await platform.client.finished(booting["id"]))["output"] == "later"
    assert (await platform.client.finished(running["id"]))["status"] == "failed"
    await check_invariants(platform, [running["id"], booting["id"]])


async def _run(platform: Platform, containers: int) -> bool:
    return len(platform.instances_with_containers()) == containers


async def _has_spoken(platform: Platform, id: str) -> bool:
    return bool((await platform.client.get(id))["logs"])


async def _next_one_runs(platform: Platform) -> Any:
    created = await platform.client.create(MODEL, {"how": "sleep", "seconds": 0})
    ended = await platform.client.finished(created["id"])
    assert ended["output"] == "survived sleep", ended
    return ended
