"""Promise 7: what is owed to a webhook is on record, is sent or given up, and so is every try."""

from core.doctor.checks import RECENT, asks

#: A sender that died had claimed it for a minute.
_OVERDUE_SECONDS = 120
_LATEST = f"(SELECT * FROM webhook_deliveries ORDER BY id DESC LIMIT {RECENT}) d"

CHECKS = (
    asks(
        "overdue deliveries",
        "Every webhook that is due is sent.",
        f"""
        SELECT id AS subject, url, next_attempt_at FROM webhook_deliveries
        WHERE status = 'pending' AND next_attempt_at < now() - interval '{_OVERDUE_SECONDS} seconds'
        """,
        "{subject} has been due since {next_attempt_at}: look at the log of `webhooks`.",
        invariant=7,
    ),
    asks(
        "owed deliveries",
        "Every end that a webhook asked for is owed to it.",
        f"""
        SELECT p.id AS subject FROM (SELECT id, completed_at, webhook_url, webhook_events, data_removed
            FROM predictions ORDER BY id DESC LIMIT {RECENT}) p
        LEFT JOIN webhook_deliveries d ON d.prediction_id = p.id AND d.event = 'completed'
        WHERE p.completed_at IS NOT NULL AND p.webhook_url IS NOT NULL AND NOT p.data_removed
            AND (p.webhook_events IS NULL OR 'completed' = ANY (p.webhook_events)) AND d.id IS NULL
        """,
        "The end of {subject} is owed to a webhook and nothing says so: report this as a bug.",
        invariant=7,
    ),
    asks(
        "attempts",
        "Whatever was delivered or given up has its tries on record.",
        f"""
        SELECT d.id AS subject, d.status FROM {_LATEST}
        WHERE d.status <> 'pending' AND NOT EXISTS (SELECT FROM webhook_attempts a WHERE a.delivery_id = d.id)
            OR d.status = 'delivered' AND d.delivered_at IS NULL
        """,
        "{subject} is {status} without a try that says so: its row was changed behind the platform's back.",
        invariant=7,
    ),
)
