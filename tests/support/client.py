"""A client of a running api, for tests that look at the wire itself: status, headers and JSON, nothing hidden."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

ENDED = ("succeeded", "failed", "canceled", "aborted")
#: A busy machine may boot a container in between.
FINISH_SECONDS = 60.0
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: Any


class Client:
    """Speaks for one account. Raises `aiohttp.ClientError` where the api is not there."""

    def __init__(self, api_url: str, token: str) -> None:
        self._api_url = api_url
        self._session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"})

    async def close(self) -> None:
        await self._session.close()

    async def request(
        self, method: str, path: str, json: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """`path` is relative to `/v1`."""
        async with self._session.request(method, f"{self._api_url}{path}", json=json, headers=headers) as response:
            is_json = response.content_type == "application/json"
            body = await response.json() if is_json else await response.text()
            return Answer(response.status, dict(response.headers), body)

    async def create(self, version: str, input: Mapping[str, Any], prefer: str | None = None, **fields: Any) -> Any:
        """The prediction as it was created; `version` in any of its three forms."""
        headers = {"Prefer": prefer} if prefer else None
        answer = await self.request("POST", "/predictions", {"version": version, "input": input, **fields}, headers)
        assert answer.status in (201, 202), answer
        return answer.body

    async def get(self, prediction_id: str) -> Any:
        answer = await self.request("GET", f"/predictions/{prediction_id}")
        assert answer.status == 200, answer
        return answer.body

    async def cancel(self, prediction_id: str) -> Any:
        answer = await self.request("POST", f"/predictions/{prediction_id}/cancel")
        assert answer.status == 200, answer
        return answer.body

    async def until(self, prediction_id: str, *statuses: str, seconds: float = FINISH_SECONDS) -> Any:
        """The prediction as soon as it has one of these statuses."""
        deadline = asyncio.get_running_loop().time() + seconds
        while (prediction := await self.get(prediction_id))["status"] not in statuses:
            late = asyncio.get_running_loop().time() > deadline
            assert not late, f"{prediction_id} is not {' or '.join(statuses)} after {seconds:g} s: {prediction}"
            await asyncio.sleep(_LOOK_SECONDS)
        return prediction

    async def finished(self, prediction_id: str, seconds: float = FINISH_SECONDS) -> Any:
        return await self.until(prediction_id, *ENDED, seconds=seconds)
