"""Calls to a running Millrace that wait for the end of what they asked for."""

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson

from bench.http import Connection
from bench.instance import Instance

_LOOK_SECONDS = 0.1
_END_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Caller:
    instance: Instance

    async def one_slot(self, model: str) -> str:
        """A Deployment of it that has one Instance, named as `many` takes it."""
        connection = await Connection.open(self.instance.url)
        _, text = await connection.get(f"/v1/models/millrace/{model}", self._token)
        version = orjson.loads(text)["latest_version"]
        hardware = orjson.loads((await connection.get("/v1/hardware", self._token))[1])[0]["sku"]
        wanted = {"name": f"{model}-alone", "model": f"millrace/{model}", "version": version["id"]}
        wanted |= {"hardware": hardware, "min_instances": 0, "max_instances": 1}
        status, made = await connection.post("/v1/deployments", wanted, self._token)
        assert status == 200, made
        connection.close()
        return f"deployments/{made['owner']}/{made['name']}"

    async def many(self, model: str, milliseconds: int, count: int, at_once: int) -> list[dict[str, Any]]:
        """So many predictions of a model, or of a Deployment, as they end; `at_once` are always under way."""
        left = iter(range(count))
        ended: list[dict[str, Any]] = []

        async def work() -> None:
            connection = await Connection.open(self.instance.url)
            for _ in left:
                ended.append(await self._run(connection, model, milliseconds))
            connection.close()

        async with asyncio.timeout(_END_SECONDS):
            await asyncio.gather(*(work() for _ in range(at_once)))
        return ended

    async def one(self, model: str, milliseconds: int = 1) -> dict[str, Any]:
        [ended] = await self.many(model, milliseconds, 1, 1)
        return ended

    async def _run(self, connection: Connection, model: str, milliseconds: int) -> dict[str, Any]:
        token, input = self._token, {"milliseconds": milliseconds}
        path, body = "predictions", {"version": f"millrace/{model}", "input": input}
        if model.startswith("deployments/"):
            path, body = f"{model}/predictions", {"input": input}
        status, answer = await connection.post(f"/v1/{path}", body, {**token, "Prefer": "wait=60"})
        assert status in (201, 202), answer
        while answer["completed_at"] is None:
            await asyncio.sleep(_LOOK_SECONDS)
            _, text = await connection.get(f"/v1/predictions/{answer['id']}", token)
            answer = orjson.loads(text)
        assert answer["status"] == "succeeded", answer
        return answer

    @property
    def _token(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.instance.token}"}
