"""What must hold once the predictions of a test have ended, whatever was killed meanwhile. Reads rows, changes none."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from sqlalchemy import Row, func, select

from core import queue
from core.doctor.examination import CHECKS, Result, examine
from core.lifecycle import LIVE_INSTANCE, DeliveryStatus, FailureCode, InstanceStatus, PredictionStatus, WebhookEvent
from core.money import ledger
from core.money.pricing import MICROS_PER_SECOND, amount_nanos
from core.resources import Resources
from core.tables import Instance, LedgerEntry, Prediction, UsageRecord, WebhookAttempt, WebhookDelivery
from core.webhooks import wants
from tests.support.platform import Platform
from tests.support.receiver import Receiver

#: Webhooks follow the end of a prediction, and containers that of their Instance, within moments on an idle machine.
SETTLE_SECONDS = 30.0
_LOOK_SECONDS = 0.1


async def check_invariants(platform: Platform, ids: Sequence[str], receiver: Receiver | None = None) -> None:
    """Of these predictions, and of the whole of the ledger, the queue and the containers."""
    resources = platform.resources
    async with resources.database.autocommit() as tx:
        rows = await tx.all(select(Prediction).where(Prediction.id.in_(ids)))
    assert len(rows) == len(set(ids)), "a committed prediction is gone"
    for row in rows:
        assert PredictionStatus(row.status).is_terminal, f"{row.id} has not ended: {row}"
        assert row.completed_at is not None, f"{row.id} ended at no moment"
    await _charged_once(resources, rows)
    await _balanced(resources)
    await _delivered(resources, rows, receiver)
    await _nothing_left_over(platform, {row.target for row in rows})
    await healthy(platform)


async def healthy(platform: Platform) -> None:
    """`millrace doctor` finds nothing, once what mends itself has had its time."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while results := await _findings(platform):
        sentences = [finding.sentence for result in results for finding in result.findings]
        assert time.monotonic() < deadline, "The doctor finds:\n" + "\n".join(sentences)
        await asyncio.sleep(1)


async def _findings(platform: Platform) -> list[Result]:
    # Room on the disk of whoever runs the tests is not what they are about.
    checks = [check for check in CHECKS if check.name not in ("disks", "clock")]
    return [result for result in await examine(platform.resources, checks, again_seconds=0) if result.findings]


async def _charged_once(resources: Resources, rows: Sequence[Row]) -> None:
    """Every success costs once what it ran; what the platform broke costs nothing; nothing costs twice."""
    async with resources.database.autocommit() as tx:
        ids = [row.id for row in rows]
        records = await tx.all(select(UsageRecord).where(UsageRecord.cause_id.in_(ids)))
    count = Counter(record.cause_id for record in records)
    by_id = {row.id: row for row in rows}
    assert not [id for id, times in count.items() if times > 1], f"charged twice: {count}"
    for row in rows:
        if row.status == PredictionStatus.SUCCEEDED:
            assert count[row.id] == 1, f"{row.id} succeeded and was charged {count[row.id]} times"
        if row.failure_code == FailureCode.NODE_LOST or row.started_at is None:
            assert not count[row.id], f"{row.id} was charged though the platform broke it: {row}"
    for record in records:
        row = by_id[record.cause_id]
        ran = (row.completed_at - row.started_at).total_seconds()
        assert record.micros <= ran * MICROS_PER_SECOND, f"{row.id} ran {ran} s and is charged {record.micros} us"
        assert record.amount_nanos == amount_nanos(record.micros, row.price_nanos_per_second), record


async def _balanced(resources: Resources) -> None:
    total = func.sum(LedgerEntry.amount_nanos)
    async with resources.database.autocommit() as tx:
        unbalanced = await tx.all(
            select(LedgerEntry.transaction_id, total).group_by(LedgerEntry.transaction_id).having(total != 0)
        )
        own = LedgerEntry.usage_record_id == UsageRecord.id, LedgerEntry.kind == ledger.Kind.USAGE
        sides = select(func.count()).where(*own).scalar_subquery()
        uncharged = await tx.all(select(UsageRecord.id, UsageRecord.cause_id).where(sides != 2))
        repeated = await tx.all(
            select(UsageRecord.cause_kind, UsageRecord.cause_id)
            .group_by(UsageRecord.cause_kind, UsageRecord.cause_id)
            .having(func.count() > 1)
        )
    assert not unbalanced, f"transactions that do not sum to zero: {unbalanced}"
    assert not uncharged, f"usage records without the two ledger entries of their charge: {uncharged}"
    assert not repeated, f"causes with more than one usage record: {repeated}"


async def _delivered(resources: Resources, rows: Sequence[Row], receiver: Receiver | None) -> None:
    """The end of each prediction that asked for it was owed once, and reached its receiver, signed, at least once."""
    owing = {row.id: row for row in rows if wants(row, WebhookEvent.COMPLETED)}
    if not owing:
        return
    assert receiver is not None, "these predictions have webhooks: say who receives them"
    deliveries = await _settled_deliveries(resources, list(owing))
    assert sorted(delivery.prediction_id for delivery in deliveries) == sorted(owing), "owed not exactly once"
    async with resources.database.autocommit() as tx:
        ids = [delivery.id for delivery in deliveries]
        attempts = await tx.all(select(WebhookAttempt).where(WebhookAttempt.delivery_id.in_(ids)))
    accepted = {attempt.delivery_id for attempt in attempts if attempt.http_status == 200}
    assert not receiver.refused, f"signatures that do not verify: {receiver.refused}"
    for delivery in deliveries:
        row = owing[delivery.prediction_id]
        came = [one.body for one in receiver.received.get(row.id, []) if one.message_id == delivery.id]
        assert delivery.status == DeliveryStatus.DELIVERED, f"{row.id}'s webhook is not delivered: {delivery}"
        assert delivery.id in accepted, f"{row.id}'s delivery has no attempt on record"
        assert came, f"{row.id}'s webhook never came"
        assert {body["status"] for body in came} == {row.status}, f"{row.id} was reported as what it is not: {came}"


async def _settled_deliveries(resources: Resources, prediction_ids: list[str]) -> Sequence[Row]:
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        async with resources.database.autocommit() as tx:
            rows = await tx.all(select(WebhookDelivery).where(WebhookDelivery.prediction_id.in_(prediction_ids)))
        pending = [row for row in rows if row.status == DeliveryStatus.PENDING]
        if not pending or time.monotonic() > deadline:
            return rows
        await asyncio.sleep(_LOOK_SECONDS)


async def _nothing_left_over(platform: Platform, targets: set[str]) -> None:
    """No id waits in a queue, and every container belongs to an Instance that lives."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while left := await _left_over(platform, targets):
        assert time.monotonic() < deadline, left
        await asyncio.sleep(_LOOK_SECONDS)


async def _left_over(platform: Platform, targets: set[str]) -> list[str]:
    resources = platform.resources
    left = []
    for target in targets:
        if waiting := await queue.depth(resources.redis, target):
            left.append(f"{waiting} ids wait in the queue of {target}")
    async with resources.database.autocommit() as tx:
        rows = await tx.all(select(Instance.id, Instance.status).where(Instance.status.in_(LIVE_INSTANCE)))
    alive = {row.id for row in rows}
    running = platform.instances_with_containers()
    left += [f"instance {id} has ended, and its container has not" for id in running - alive]
    ready = {row.id for row in rows if row.status == InstanceStatus.READY}
    left += [f"instance {id} is ready, and has no container" for id in ready - running]
    return left
