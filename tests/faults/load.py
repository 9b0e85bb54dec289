"""Fifty predictions, short, medium and streaming, and the moment when some have ended and others run."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy import Row, func, select, update

from core.lifecycle import DeliveryStatus, PredictionStatus
from core.tables import Prediction, WebhookDelivery
from tests.support.platform import Platform
from tests.support.receiver import Receiver

MODELS = ("no-op", "sleeper", "chatty")
COUNT = 50

#: Two busy cores boot a container in seconds, and each process that a test kills once more.
END_SECONDS = 90.0
_LOOK_SECONDS = 0.1


def inputs() -> list[tuple[str, dict[str, object]]]:
    short = [("no-op", {"text": f"short {index}"}) for index in range(32)]
    medium = [("sleeper", {"text": f"medium {index}", "seconds": 1 + index % 2}) for index in range(8)]
    streaming = [("chatty", {"count": 5, "sleep_seconds": 0.15}) for _ in range(10)]
    # Whatever runs longer comes first, so that something runs when the short ones have ended.
    return [*medium, *streaming, *short]


async def start_fifty(platform: Platform, receiver: Receiver) -> list[str]:
    """Their ids, as soon as the api has taken all of them."""
    created = await asyncio.gather(
        *(
            platform.client.create(
                f"millrace/{model}", input, webhook=receiver.url, webhook_events_filter=["completed"]
            )
            for model, input in inputs()
        )
    )
    assert len(created) == COUNT
    return [prediction["id"] for prediction in created]


async def middle(platform: Platform, ids: Sequence[str]) -> None:
    """When at least one runs and at least one has ended, and others have not."""
    deadline = time.monotonic() + END_SECONDS
    while True:
        count = await counts(platform, ids)
        ended = sum(number for status, number in count.items() if status.is_terminal)
        assert ended < COUNT, "all ended before anything could be killed"
        if ended and count.get(PredictionStatus.PROCESSING):
            return
        assert time.monotonic() < deadline, f"no middle is reached: {count}"
        await asyncio.sleep(_LOOK_SECONDS / 2)


async def all_ended(platform: Platform, ids: Sequence[str], seconds: float = END_SECONDS) -> list[Row]:
    """Their rows. Looks at the database, since the api may be what was killed."""
    deadline = time.monotonic() + seconds
    while True:
        count = await counts(platform, ids)
        if all(status.is_terminal for status in count):
            return await rows_of(platform, ids)
        platform.check()
        assert time.monotonic() < deadline, f"not all ended in {seconds:g} s: {count}"
        await asyncio.sleep(_LOOK_SECONDS)


async def until(is_so: Callable[[], Awaitable[bool]], seconds: float = END_SECONDS) -> None:
    """Asks again and again; no event tells of what happens in other processes."""
    async with asyncio.timeout(seconds):
        while not await is_so():  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS / 2)


async def counts(platform: Platform, ids: Sequence[str]) -> dict[PredictionStatus, int]:
    async with platform.resources.database.autocommit() as tx:
        rows = await tx.all(
            select(Prediction.status, func.count().label("number"))
            .where(Prediction.id.in_(ids))
            .group_by(Prediction.status)
        )
    return {PredictionStatus(row.status): row.number for row in rows}


async def rows_of(platform: Platform, ids: Sequence[str]) -> list[Row]:
    async with platform.resources.database.autocommit() as tx:
        return list(await tx.all(select(Prediction).where(Prediction.id.in_(ids))))


def not_succeeded(rows: Sequence[Row]) -> list[tuple[str, str | None, str | None]]:
    return [(row.model, row.failure_code, row.error) for row in rows if row.status != PredictionStatus.SUCCEEDED]


async def let_claims_run_out(platform: Platform) -> None:
    """What a dead sender had claimed is due again after a minute, which nobody wants to wait."""
    async with platform.resources.database.transaction() as tx:
        await tx.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.status == DeliveryStatus.PENDING)
            .values(next_attempt_at=func.now())
        )
