"""Predictions that have ended, some time ago, with all that may hang on one: made by the verbs, and then made older."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, func, insert, select, update

from core import files, idempotency, predictions, reuse, streams
from core.catalog import Runnable
from core.database import seconds_from_now
from core.files import NewFile
from core.ids import new_id
from core.lifecycle import DeliveryStatus, PredictionStatus
from core.predictions import Outcome, Request
from core.resources import Resources
from core.tables import File, IdempotencyKey, ModelExample, Prediction, Version, WebhookDelivery
from core.webhooks import record_attempt
from tests.support.factories import add_instance, add_node

WEBHOOK = "http://127.0.0.1:9/"
SECRET = "the value of a secret"
INPUT = {"text": "hello", "key": SECRET}


@dataclass(frozen=True)
class Traces:
    """Where else something of a prediction is kept."""

    files: list[Row]
    bytes: list[bytes]
    answer: bytes | None
    has_stream: bool


@dataclass(frozen=True)
class Past:
    resources: Resources
    account: Row
    runnable: Runnable

    async def waiting(self, **fields: Any) -> Row:
        request = Request(self.account.id, self.runnable, INPUT, secret_inputs=["key"], **fields)
        async with self.resources.database.transaction() as tx:
            return await predictions.create(tx, request)

    async def running(self, **fields: Any) -> Row:
        waiting = await self.waiting(**fields)
        async with self.resources.database.transaction() as tx:
            node = await add_node(tx)
            instance_id = await add_instance(tx, node, self.runnable)
            row = await predictions.start(tx, waiting.id, instance_id, node.boot_id)
        assert row is not None
        return row

    async def ended(
        self, status: PredictionStatus = PredictionStatus.SUCCEEDED, file_count: int = 0, **fields: Any
    ) -> Row:
        """It has returned, or left behind, so many files, and was made with an Idempotency-Key."""
        row = await self.running(**fields)
        output = [await self.file(row, f"file {number}".encode()) for number in range(file_count)] or "hello"
        await streams.extend(self.resources.redis, row.id, ["hello"])
        await self.answered(row)
        failed = status is PredictionStatus.FAILED
        outcome = Outcome(status, output, "It broke." if failed else None, logs="a log\n", metrics={"n": 3}, micros=250)
        async with self.resources.database.transaction() as tx:
            await predictions.finish(tx, row.id, row.attempt, outcome)
        return await self.row(row.id)

    async def hit(self, origin: Row, source: str = "api") -> Row:
        """A prediction that was given the result of that one."""
        async with self.resources.database.transaction() as tx:
            row = await reuse.create(
                tx, Request(self.account.id, self.runnable, INPUT, ["key"], source, cache_key=origin.cache_key)
            )
        assert row is not None
        assert row.cached_from == origin.id
        return row

    async def file(self, row: Row, content: bytes, kind: str = files.OUTPUT, lifetime: int | None = None) -> str:
        async def chunks() -> AsyncIterator[bytes]:
            yield content

        prediction_id = row.id if kind == files.OUTPUT else None
        new = NewFile(self.account.id, kind, "a.bin", "text/plain", prediction_id, lifetime_seconds=lifetime)
        values = await files.store(self.resources.files, new, chunks(), 1 << 20)
        async with self.resources.database.transaction() as tx:
            await files.record(tx, values)
        return files.reference(values["id"], "a.bin") if kind == files.OUTPUT else values["id"]

    async def answered(self, row: Row) -> None:
        async with self.resources.database.autocommit() as tx:
            claimed = await idempotency.claim(tx, self.account.id, new_id(), b"hash", row.id, 3600)
            await idempotency.answer(tx, claimed, 201, "application/json", b'{"output":"hello"}')

    # --- what others do to it, and time ---

    async def make_example(self, row: Row) -> None:
        model = select(Version.model_id).where(Version.id == row.version_id).scalar_subquery()
        async with self.resources.database.transaction() as tx:
            await tx.execute(insert(ModelExample).values(model_id=model, prediction_id=row.id))

    async def deliver(self, row: Row) -> None:
        async with self.resources.database.transaction() as tx:
            attempt = WebhookDelivery.attempts + 1
            this = update(WebhookDelivery).where(WebhookDelivery.prediction_id == row.id).values(attempts=attempt)
            delivery = await tx.one(this.returning(WebhookDelivery))
            assert await record_attempt(tx, delivery, 200, None, 5) == DeliveryStatus.DELIVERED

    async def write(self, table: type, id: str, **values: Any) -> None:
        async with self.resources.database.transaction() as tx:
            await tx.execute(update(table).where(table.__table__.c.id == id).values(**values))

    async def age(self, row: Row, seconds: float) -> Row:
        await self.write(Prediction, row.id, completed_at=seconds_from_now(-seconds))
        return await self.row(row.id)

    async def expire_files(self) -> None:
        """All that nobody is given any more has been so for long."""
        async with self.resources.database.transaction() as tx:
            gone = update(File).where(File.account_id == self.account.id, File.expires_at <= func.now())
            await tx.execute(gone.values(expires_at=seconds_from_now(-files.GRACE_SECONDS - 1)))

    # --- looking ---

    async def row(self, id: str) -> Row | None:
        async with self.resources.database.autocommit() as tx:
            return await predictions.find(tx, id)

    async def rows(self, table: type, *conditions: Any) -> list[Row]:
        async with self.resources.database.autocommit() as tx:
            return list(await tx.all(select(*table.__table__.c).where(*conditions)))

    async def traces(self, id: str) -> Traces:
        """Files that anybody may still be given."""
        current = File.expires_at.is_(None)
        rows = await self.rows(File, File.prediction_id == id, current)
        [key] = await self.rows(IdempotencyKey, IdempotencyKey.resource_id == id) or [None]
        return Traces(
            rows,
            [await self.resources.files.read(row.store_key) for row in rows],
            key and key.answer,
            await streams.exists(self.resources.redis, id),
        )
