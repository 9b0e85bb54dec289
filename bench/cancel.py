"""How soon a cancel takes effect: from the call to the api until the prediction has ended, which frees its slot.

`python -m bench.cancel` starts a platform of its own, with a model that heeds a cancel and one that does not.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from core.settings import get_settings
from tests.support.platform import PROJECTS, Platform

_ROUNDS = 20
_STUBBORN_ROUNDS = 3
#: Sleeps in one long call, which nothing can be raised into.
_STUBBORN = '''"""Ignores a cancel."""

import time

from cog import BasePredictor


class Predictor(BasePredictor):
    def predict(self) -> str:
        time.sleep(60)
        return "never"
'''


async def main() -> None:
    grace = get_settings().cancel_grace_seconds
    with tempfile.TemporaryDirectory(prefix="millrace-cancel-") as folder:
        async with Platform(Path(folder) / "data", cancel_grace_seconds=grace) as platform:
            stubborn = await platform.publish(PROJECTS / "sleeper", "stubborn", files={"predict.py": _STUBBORN})
            heeding = await platform.publish(PROJECTS / "sleeper")
            await platform.wait_ready(heeding, stubborn)
            await _measure(platform, heeding, {"seconds": 60}, _ROUNDS)
            await _measure(platform, stubborn, {}, _STUBBORN_ROUNDS)


async def _measure(platform: Platform, model: str, input: dict[str, object], rounds: int) -> None:
    seconds = [await _cancel(platform, model, input) for _ in range(rounds)]
    middle, worst = statistics.median(seconds), max(seconds)
    print(f"{model}: ended after {middle * 1000:.0f} ms (median of {rounds}), {worst * 1000:.0f} ms at worst")  # noqa: T201


async def _cancel(platform: Platform, model: str, input: dict[str, object]) -> float:
    created = await platform.client.create(model, input)
    await platform.client.until(created["id"], "processing")
    # So that it is well under way in its container.
    await asyncio.sleep(0.5)
    began = time.monotonic()
    answer = await platform.client.cancel(created["id"])
    while answer["status"] == "processing":
        await asyncio.sleep(0.01)
        answer = await platform.client.get(created["id"])
    assert answer["status"] == "canceled", answer
    return time.monotonic() - began


if __name__ == "__main__":
    asyncio.run(main())
