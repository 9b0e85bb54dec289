"""Tags, by which an account tells its costs apart, travel from the request to the record."""

import httpx
import pytest

from tests.api.scene import Caller, Scene
from tests.api.test_usage import run


async def test_tags_are_kept_with_what_was_used(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    id = await run(client, scene, await scene.publish(caller), 1_000_000, "team = vision ,project=a=b,,empty=,")
    [record] = (await client.get("/v1/usage/records")).json()["results"]
    tags = {"team": "vision", "project": "a=b", "empty": ""}
    assert (record["prediction"], record["tags"]) == (id, tags)
    assert (await client.get(f"/v1/predictions/{id}")).json()["tags"] == tags


async def test_without_tags_there_are_none(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    id = await run(client, scene, await scene.publish(caller), 1_000_000)
    assert "tags" not in (await client.get(f"/v1/predictions/{id}")).json()
    [record] = (await client.get("/v1/usage/records")).json()["results"]
    assert record["tags"] == {}


@pytest.mark.parametrize(
    ("tags", "sentence"),
    [
        ("vision", "'vision' is no tag; write them like team=vision, project=catalogue."),
        ("=vision", "is no tag"),
        ("a=1,a=2", "names a twice"),
        (",".join(f"t{number}=x" for number in range(9)), "holds 9 tags; at most 8 are kept"),
        ("a=" + "x" * 128, "is no tag"),
        ("-a=b", "is no tag"),
    ],
)
async def test_what_is_no_tag_is_named_and_runs_nothing(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, tags: str, sentence: str
) -> None:
    body = {"version": (await scene.publish(caller)).version, "input": {"text": "Ada"}}
    answer = await client.post("/v1/predictions", json=body, headers={"X-Millrace-Tags": tags})
    assert (answer.status_code, sentence in answer.json()["detail"]) == (400, True), answer.text
    assert (await client.get("/v1/predictions")).json()["results"] == []
