"""An account that owes as much as it may starts nothing new."""

import httpx
import pytest

from core.money import wallets
from core.resources import Resources
from core.settings import Settings
from tests.api.conftest import client_of
from tests.api.scene import Caller, Scene

#: What the run below costs more or less than, by far.
PENNY, FORTUNE = 1, 10**15


async def limited(scene: Scene, caller: Caller, resources: Resources, nanos: int | None) -> str:
    """A token of the account with that limit; new, so that no process remembers the account as it was."""
    async with resources.database.transaction() as tx:
        await wallets.set_terms(tx, caller.id, credit_limit_nanos=nanos)
    return await scene.token(caller)


@pytest.mark.parametrize(("limit", "status"), [(PENNY, 402), (0, 402), (FORTUNE, 201), (None, 201)])
async def test_who_owes_as_much_as_the_limit_is_told_so_before_anything_runs(
    api: Settings, client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources, limit, status
) -> None:
    body = {"version": (await scene.publish(caller)).version, "input": {"text": "Ada"}}
    first = (await client.post("/v1/predictions", json=body)).json()
    await scene.finish(await scene.start(first["id"]), "hello", micros=1_000_000)
    async with client_of(api, await limited(scene, caller, resources, limit)) as limited_client:
        answer = await limited_client.post("/v1/predictions", json=body)
        assert answer.status_code == status
        count = len((await limited_client.get("/v1/predictions")).json()["results"])
    assert count == (1 if status == 402 else 2)
    if status == 402:
        problem = answer.json()
        assert (problem["title"], problem["status"]) == ("Insufficient credit", 402)
        assert answer.headers["content-type"] == "application/problem+json"
