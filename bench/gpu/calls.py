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

    async def many(self, model: str, milliseconds: int, count: int, at_once: int) -> list[dict[str, Any]]:
        """So many predictions, as they end; `at_once` of them are always under way."""
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
        token = {"Authorization": f"Bearer {self.instance.token}"}
        body = {"version": f"millrace/{model}", "input": {"milliseconds": milliseconds}}
        status, answer = await connection.post("/v1/predictions", body, {**token, "Prefer": "wait=60"})
        assert status in (201, 202), answer
        while answer["completed_at"] is None:
            await asyncio.sleep(_LOOK_SECONDS)
            _, text = await connection.get(f"/v1/predictions/{answer['id']}", token)
            answer = orjson.loads(text)
        assert answer["status"] == "succeeded", answer
        return answer
