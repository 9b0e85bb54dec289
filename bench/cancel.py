"""How soon a cancel frees the slot: from the moment at which the api is called until another prediction has it.

`make bench-cancel` starts a platform of its own. Each model has one Instance of one slot; one prediction runs, another
waits behind it, and the first is canceled. All moments are by the clock of this machine, which the database, the model
and this program share. A slot is free when the next one is started on it (T2), or its container is gone.
"""

import asyncio
import os
import re
import tempfile
import time
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from core.settings import get_settings
from core.tables import Instance
from tests.support.platform import Platform

_MODELS = Path(__file__).parent / "models"
_NEWER, _OLDER = "0.23.1", "0.16.12"
_ROUNDS = 40
_STUBBORN_ROUNDS = 5
_LONG_SECONDS = 60.0
#: So that the first is well under way in its container, and the other one waits.
_SETTLE_SECONDS = 0.4
_STOPPED = re.compile(r"stopped at ([\d.]+)")

Moments = dict[str, float]
"""Seconds after the call."""


class Slot:
    """The only one of a Deployment."""

    def __init__(self, platform: Platform, path: str) -> None:
        self._platform = platform
        self._client = platform.client
        self._path = path

    @classmethod
    async def of(cls, platform: Platform, model: str) -> "Slot":
        version = (await platform.client.request("GET", f"/models/{model}")).body["latest_version"]["id"]
        wanted = {"name": model.partition("/")[2], "model": model, "version": version, "hardware": "cpu"}
        made = await platform.client.request("POST", "/deployments", {**wanted, "min_instances": 1, "max_instances": 1})
        assert made.status == 200, made
        slot = cls(platform, f"/deployments/{made.body['owner']}/{made.body['name']}")
        await slot._client.finished(await slot._create(0.0))
        return slot

    async def cancel(self) -> Moments:
        first = await self._create(_LONG_SECONDS)
        await self._client.until(first, "processing")
        next = await self._create(0.0)
        await asyncio.sleep(_SETTLE_SECONDS)
        asked = time.time()
        await self._client.cancel(first)
        answered = time.time()
        canceled, ended = await self._client.finished(first), await self._client.finished(next)
        assert (canceled["status"], ended["status"]) == ("canceled", "succeeded"), (canceled, ended)
        moments = {
            "api has answered": answered,
            "its end is written (T3)": _seconds(canceled["completed_at"]),
            "next one is started (T2)": _seconds(ended["started_at"]),
            "next one runs in the container": ended["output"],
        }
        if stopped := _STOPPED.search(canceled["logs"]):
            moments["model has stopped"] = float(stopped[1])
        if gone := await self._container_gone(first):
            moments["container is gone"] = gone
        return {what: moment - asked for what, moment in sorted(moments.items(), key=lambda each: each[1])}

    async def _create(self, seconds: float) -> str:
        answer = await self._client.request("POST", f"{self._path}/predictions", {"input": {"seconds": seconds}})
        assert answer.status == 201, answer
        return answer.body["id"]

    async def _container_gone(self, prediction_id: str) -> float | None:
        events = (await self._client.request("GET", f"/predictions/{prediction_id}/events")).body["results"]
        ids = {word for event in events for word in re.findall(r"instance (\w+)", event["reason"] or "")}
        async with self._platform.resources.database.autocommit() as tx:
            gone = await tx.scalar(select(Instance.ended_at).where(Instance.id.in_(ids)))
        return gone and gone.timestamp()


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


async def measure(slot: Slot, title: str, rounds: int) -> Table:
    found = [await slot.cancel() for _ in range(rounds)]
    load = os.getloadavg()[0]
    table = Table("after the call, ms", "p50", "p95", "max", title=f"{title}, {rounds} times, load {load:.1f}")
    for what in found[-1]:
        ordered = sorted(moments[what] * 1000 for moments in found)
        figures = (ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.95)], ordered[-1])
        table.add_row(what, *(f"{figure:.0f}" for figure in figures))
    return table


async def main() -> None:
    grace = get_settings().cancel_grace_seconds
    console = Console(width=100)
    with tempfile.TemporaryDirectory(prefix="millrace-cancel-") as folder:
        async with Platform(Path(folder) / "data", cancel_grace_seconds=grace) as platform:
            older = (_MODELS / "heeding" / "cog.yaml").read_text().replace(_NEWER, _OLDER)
            models = [
                await platform.publish(_MODELS / "heeding"),
                await platform.publish(_MODELS / "heeding", "heeding-older", files={"cog.yaml": older}),
                await platform.publish(_MODELS / "stubborn"),
            ]
            await platform.wait_ready(*models)
            newer, by_webhook, stubborn = [await Slot.of(platform, model) for model in models]
            console.print(await measure(newer, f"A model that heeds it, Cog {_NEWER}", _ROUNDS))
            console.print(await measure(by_webhook, f"A model that heeds it, Cog {_OLDER}", _ROUNDS))
            console.print(await measure(stubborn, f"A model that ignores it, grace {grace:g} s", _STUBBORN_ROUNDS))


if __name__ == "__main__":
    asyncio.run(main())
