"""Promises 1, 2, 4 and 9: what waits or runs is in somebody's hands, and what has ended stays as it ended."""

from sqlalchemy import text

from core import predictions, queue
from core.doctor.checks import LATE_SECONDS, RECENT, SHOWN, Check, Finding, asks
from core.resources import Resources

#: However many wait, they are looked at so many at a time.
_AT_ONCE = 5000
#: A runner that is told to stop has its grace, and then its container is ended.
_STOPPING_SECONDS = 120
#: A usage record is by the worker's clock, a row by the database's: they do not tick alike, and where one of them is
#: being set right, they differ by one part in so many.
_TICK_SECONDS = 1
_DRIFT = 1000

_NOT_QUEUED = "{} waits for {} and is in no queue; the scheduler's requeue sweep should have put it there."


async def _waiting(resources: Resources) -> list[Finding]:
    found: list[Finding] = []
    after: tuple | None = None
    while len(found) <= SHOWN:
        async with resources.database.autocommit() as tx:
            rows = await predictions.waiting_since(tx, LATE_SECONDS, _AT_ONCE, after)
        lost = await queue.missing(resources.redis, [(row.target, row.id) for row in rows])
        found += [Finding(row.id, _NOT_QUEUED.format(row.id, row.target)) for row in rows if row.id in lost]
        if len(rows) < _AT_ONCE:
            break
        after = (rows[-1].target, rows[-1].created_at, rows[-1].id)
    return found[: SHOWN + 1]


async def _unprepared(resources: Resources) -> list[Finding]:
    """One is prepared at a time, so others may wait for hours: only where nothing is prepared at all is it too long."""
    statement = text(
        """
        SELECT id AS subject FROM versions v
        WHERE status = 'preparing' AND deleted_at IS NULL AND created_at < now() - interval '5 minutes'
            AND NOT EXISTS (SELECT FROM versions o WHERE o.prepare_lease_expires_at > now() - interval '1 minute')
        ORDER BY id LIMIT 21
        """
    )
    async with resources.database.autocommit() as tx:
        rows = await tx.all(statement)
    sentence = "Version {} waits to be prepared and nothing is being prepared: look at the log of `jobs`."
    return [Finding(row.subject, sentence.format(row.subject)) for row in rows]


#: Ids begin with the time, so the latest are at the end of the primary key.
_LATEST = f"(SELECT * FROM predictions ORDER BY id DESC LIMIT {RECENT}) p"

CHECKS = (
    Check("waiting", "Every prediction that waits is in a queue.", _waiting, 1),
    asks(
        "running",
        "Every prediction that runs is held by a live instance of a node whose lease is good.",
        f"""
        SELECT p.id AS subject, coalesce(i.id, 'none') AS instance, coalesce(i.status, 'gone') AS status,
            coalesce(n.name, 'none') AS node
        FROM predictions p
        LEFT JOIN instances i ON i.id = p.instance_id LEFT JOIN nodes n ON n.id = i.node_id
        WHERE p.completed_at IS NULL AND p.status = 'processing'
            AND p.started_at < now() - interval '{LATE_SECONDS} seconds'
            AND (i.id IS NULL OR i.status NOT IN ('ready', 'draining') OR n.boot_id IS DISTINCT FROM p.node_boot_id
                OR n.lease_expires_at < now() - interval '{LATE_SECONDS} seconds')
        """,
        "{subject} counts as running on instance {instance} ({status}, node {node}), which no longer holds it; "
        "the scheduler's rescue sweep should have ended it.",
        invariant=1,
    ),
    asks(
        "deadlines",
        "Nothing waits or runs past its deadline, or long after it was to stop.",
        f"""
        SELECT id AS subject, status FROM predictions
        WHERE completed_at IS NULL AND deadline_at < now() - interval '{_STOPPING_SECONDS} seconds'
        UNION
        SELECT id, status FROM predictions
        WHERE completed_at IS NULL AND cancel_requested_at < now() - interval '{_STOPPING_SECONDS} seconds'
        """,
        "{subject} is still {status} though it was to stop minutes ago; look at the log of the node that runs it, "
        "or of the scheduler if it waits.",
        invariant=1,
    ),
    Check("versions", "Every version that waits to be prepared gets its turn.", _unprepared, 1),
    asks(
        "ends",
        "What has ended has an end, and what has not has none.",
        f"""
        SELECT id AS subject, status FROM predictions
        WHERE completed_at IS NULL AND status NOT IN ('starting', 'processing')
        UNION ALL
        SELECT id, status FROM {_LATEST} WHERE completed_at IS NOT NULL AND status IN ('starting', 'processing')
        """,
        "{subject} is {status}, and its end says otherwise: its row was changed behind the platform's back.",
        invariant=2,
    ),
    asks(
        "order",
        "A prediction is created, then started, then completed, by the database's clock.",
        f"""
        SELECT id AS subject, created_at, started_at, completed_at FROM {_LATEST}
        WHERE started_at < created_at OR completed_at < coalesce(started_at, created_at)
        """,
        "{subject} was created {created_at}, started {started_at}, completed {completed_at}: "
        "its row was written after its end, or the database's clock was set back.",
        invariant=2,
    ),
    asks(
        "charged time",
        "No charge is for more time than was run.",
        f"""
        SELECT u.cause_id AS subject, u.micros / 1e6 AS charged,
            extract(epoch FROM p.completed_at - p.started_at) AS ran
        FROM (SELECT * FROM usage_records ORDER BY id DESC LIMIT {RECENT}) u
        JOIN predictions p ON p.id = u.cause_id
        WHERE u.cause_kind = 'prediction'
            AND u.micros / 1e6 * (1 - 1.0 / {_DRIFT})
                > extract(epoch FROM p.completed_at - p.started_at) + {_TICK_SECONDS}
        """,
        "{subject} ran {ran:.3f} s and is charged for {charged:.3f} s: give it back with `millrace billing refund`.",
        invariant=4,
    ),
    asks(
        "owners",
        "What a prediction made, used and told belongs to whoever made it.",
        f"""
        SELECT f.id AS subject, 'File' AS what, p.id AS prediction
        FROM (SELECT * FROM files ORDER BY id DESC LIMIT {RECENT}) f
        JOIN predictions p ON p.id = f.prediction_id WHERE f.account_id <> p.account_id
        UNION ALL
        SELECT u.id, 'Usage record', p.id FROM (SELECT * FROM usage_records ORDER BY id DESC LIMIT {RECENT}) u
        JOIN predictions p ON p.id = u.cause_id WHERE u.cause_kind = 'prediction' AND u.account_id <> p.account_id
        UNION ALL
        SELECT d.id, 'Delivery', p.id FROM (SELECT * FROM webhook_deliveries ORDER BY id DESC LIMIT {RECENT}) d
        JOIN predictions p ON p.id = d.prediction_id WHERE d.account_id <> p.account_id
        """,
        "{what} {subject} belongs to another account than its prediction {prediction}: report this as a bug.",
        invariant=9,
    ),
)
