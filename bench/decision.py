"""How soon the scheduler decides on what nothing serves: from the row of a prediction to that of its Instance.

`make bench-decision` starts a platform of its own, and calls Deployments that have no Instance, one at a time and at
different moments of the scheduler's second. Both moments are by the database's clock, at the begin of the transaction.
"""

import asyncio
import os
import statistics
import tempfile
from pathlib import Path

from sqlalchemy import select

from core.tables import Instance, Prediction
from tests.support.platform import PROJECTS, Platform

_ROUNDS = 20
#: The first decisions of a scheduler compile their statements, as a new process does, and are told apart.
_FIRST = 5
_PAUSE_SECONDS = 1.5
_SHIFT_SECONDS = 0.37


async def decide(platform: Platform, model: str, version: str, number: int) -> float:
    """Seconds, of a Deployment of its own."""
    client = platform.client
    wanted = {"name": f"d{number}", "model": model, "version": version, "hardware": "cpu"}
    made = await client.request("POST", "/deployments", {**wanted, "min_instances": 0, "max_instances": 1})
    assert made.status == 200, made
    path = f"/deployments/{made.body['owner']}/{made.body['name']}"
    await asyncio.sleep(_PAUSE_SECONDS + (number * _SHIFT_SECONDS) % 1)
    answer = await client.request("POST", f"{path}/predictions", {"input": {}})
    assert answer.status == 201, answer
    await client.finished(answer.body["id"])
    async with platform.resources.database.autocommit() as tx:
        asked = await tx.one(select(Prediction.created_at, Prediction.target).where(Prediction.id == answer.body["id"]))
        decided = await tx.one(select(Instance.created_at).where(Instance.target == asked.target))
    disabled = await client.request("PATCH", path, {"max_instances": 0})
    assert disabled.status == 200, disabled
    return (decided.created_at - asked.created_at).total_seconds()


def report(name: str, seconds: list[float]) -> None:
    middle = statistics.median(seconds) * 1000
    print(f"{name}: p50 {middle:.0f} ms, max {max(seconds) * 1000:.0f} ms, load {os.getloadavg()[0]:.1f}")


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="millrace-decision-") as folder:
        async with Platform(Path(folder) / "data") as platform:
            model = await platform.publish(PROJECTS / "no-op-sync")
            await platform.wait_ready(model)
            version = (await platform.client.request("GET", f"/models/{model}")).body["latest_version"]["id"]
            took = [await decide(platform, model, version, number) for number in range(_ROUNDS)]
    report(f"The first {_FIRST}", took[:_FIRST])
    report(f"{_ROUNDS - _FIRST} after them", took[_FIRST:])


if __name__ == "__main__":
    asyncio.run(main())
