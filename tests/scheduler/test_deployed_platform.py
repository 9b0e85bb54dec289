"""The life of a Deployment on the whole platform, with real containers: warm before anybody asks, moved, disabled."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from core import fleet
from core.ids import new_id
from core.lifecycle import InstanceStatus
from tests.api.scene import Caller, Scene
from tests.support.client import Client
from tests.support.platform import PROJECTS, Platform

#: A boot takes a second or two, on a busy machine several.
PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.1
SLEEPER = (PROJECTS / "sleeper" / "predict.py").read_text()


@pytest.fixture
async def client(platform: Platform) -> AsyncIterator[Client]:
    """Speaks for an account of its own."""
    account: Caller = await Scene(platform.resources).caller()
    client = Client(platform.api_url, account.token)
    yield client
    await client.close()


@pytest.fixture
async def versions(platform: Platform) -> list[str]:
    """Two of the Model `millrace/deployed`: what comes back from the second says that it is new."""
    second = SLEEPER.replace("return text", 'return f"new {text}"')
    return [
        await _publish(platform, "first/deployed", SLEEPER),
        await _publish(platform, "second/deployed", second),
    ]


async def _publish(platform: Platform, name: str, source: str) -> str:
    model = await platform.publish(PROJECTS / "sleeper", name, files={"predict.py": source})
    await platform.wait_ready(model)
    return (await platform.client.request("GET", f"/models/{model}")).body["latest_version"]["id"]


async def test_a_deployment_is_warm_before_anybody_asks_moves_with_an_update_and_stops_when_disabled(
    platform: Platform, client: Client, versions: list[str]
) -> None:
    first, second = versions
    body = {
        "name": f"d-{new_id()}",
        "model": "millrace/deployed",
        "version": first,
        "hardware": "cpu",
        "min_instances": 1,
        "max_instances": 1,
    }
    created = (await client.request("POST", "/deployments", body)).body
    path = f"/deployments/{created['owner']}/{created['name']}"
    await until_up(platform, versions, [first])
    assert await run(client, path) == (first, "Ada")

    await client.request("PATCH", path, {"version": second})
    assert await run(client, path) == (second, "new Ada")
    await until_up(platform, versions, [second])

    running, waiting = [await create(client, path, seconds=600) for _ in range(2)]
    await client.until(running["id"], "processing")
    await client.request("PATCH", path, {"min_instances": 0, "max_instances": 0})
    for prediction in (running, waiting):
        assert (await client.finished(prediction["id"]))["status"] == "canceled"
    await until_up(platform, versions, [])
    refused = await client.request("POST", f"{path}/predictions", {"input": {}})
    assert refused.status == 409


async def create(client: Client, path: str, headers: dict[str, str] | None = None, **input: Any) -> dict[str, Any]:
    answer = await client.request("POST", f"{path}/predictions", {"input": {"text": "Ada", **input}}, headers)
    assert answer.status in (201, 202), answer
    return answer.body


async def run(client: Client, path: str) -> tuple[str, Any]:
    """The Version that ran, and what it returned."""
    created = await create(client, path, seconds=0)
    ended = await client.finished(created["id"])
    assert ended["status"] == "succeeded", ended
    return ended["version"], ended["output"]


async def until_up(platform: Platform, versions: list[str], wanted: list[str]) -> None:
    """Until these are the Versions of all Instances that there are of `versions`."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := await up(platform, versions)) != wanted:
        assert time.monotonic() < deadline, f"{found} are up, and not {wanted}"
        await asyncio.sleep(_LOOK_SECONDS)


async def up(platform: Platform, versions: list[str]) -> list[str]:
    """The Version of each Instance that is ready, and of others how far they are."""
    async with platform.resources.database.autocommit() as tx:
        rows = [row for row in await fleet.live_instances(tx) if row.version_id in versions]
    return [row.version_id if row.status == InstanceStatus.READY else row.status for row in rows]
