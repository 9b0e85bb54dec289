"""Promise 6, and the fleet around it: nodes that report, instances that are where they should be, GPUs held once."""

from core.doctor.checks import LATE_SECONDS, RECENT, asks
from core.fleet import REVOKED
from core.lifecycle import LIVE_INSTANCE

_LIVE = ", ".join(f"'{status.value}'" for status in LIVE_INSTANCE)
#: Webhooks are signed with the time, and their receivers allow five minutes.
_CLOCK_SECONDS = 60
#: Beyond the setup time-out: a large image is still being pulled.
_BOOT_MINUTES = 60

CHECKS = (
    asks(
        "devices",
        "No GPU is given to two instances, unless they share it and fit.",
        f"""
        SELECT h.uuid AS subject, string_agg(DISTINCT n.name, ' and ') AS nodes,
            string_agg(h.id, ', ' ORDER BY h.id) AS ids
        FROM (SELECT id, node_id, shares_gpu, reserved_bytes, unnest(gpu_uuids) AS uuid
            FROM instances WHERE status IN ({_LIVE})) h
        JOIN nodes n ON n.id = h.node_id
        LEFT JOIN LATERAL (SELECT (gpu ->> 'memory_bytes')::numeric AS bytes FROM jsonb_array_elements(n.gpus) gpu
            WHERE gpu ->> 'uuid' = h.uuid LIMIT 1) g ON true
        GROUP BY h.uuid
        HAVING count(*) > 1
            AND NOT coalesce(bool_and(h.shares_gpu AND h.reserved_bytes IS NOT NULL)
                AND sum(h.reserved_bytes) <= min(g.bytes), false)
        """,
        "{subject} of node {nodes} is given to instances {ids}, which do not fit on it together: report this as a bug.",
        invariant=6,
    ),
    asks(
        "slots",
        "No instance runs more at once than it has slots, and no deployment has more instances than it may.",
        f"""
        SELECT 'Instance ' || i.id AS subject, count(*) AS count, i.slots AS most FROM predictions p
        JOIN instances i ON i.id = p.instance_id
        WHERE p.completed_at IS NULL AND p.started_at < now() - interval '{LATE_SECONDS} seconds'
        GROUP BY i.id HAVING count(*) > i.slots
        UNION ALL
        SELECT 'Deployment ' || d.name, count(*), r.max_instances FROM instances i
        JOIN deployments d ON d.id = split_part(i.target, '@', 3)
        JOIN releases r ON r.deployment_id = d.id AND r.number = d.release_number
        WHERE i.status IN ({_LIVE}) AND i.is_wanted AND r.created_at < now() - interval '{LATE_SECONDS} seconds'
        GROUP BY d.id, r.max_instances HAVING count(*) > r.max_instances
        """,
        "{subject} has {count} and may have {most}: report this as a bug.",
        invariant=6,
    ),
    asks(
        "instances",
        "Every instance that is not over is on a node that reports.",
        f"""
        SELECT i.id AS subject, i.status, n.name AS node FROM instances i JOIN nodes n ON n.id = i.node_id
        WHERE i.status IN ({_LIVE})
            AND (n.boot_id = '{REVOKED}' OR n.lease_expires_at < now() - interval '{LATE_SECONDS} seconds')
        """,
        "Instance {subject} counts as {status} on node {node}, which does not report; the scheduler's rescue sweep "
        "should have ended it.",
        invariant=6,
    ),
    asks(
        "boots",
        "Every instance that is wanted boots, and every one that must leave leaves.",
        f"""
        SELECT id AS subject, status FROM instances WHERE status IN ({_LIVE}) AND (
            (status = 'pending' AND created_at < now() - interval '5 minutes')
            OR (status = 'starting' AND created_at < now() - interval '{_BOOT_MINUTES} minutes')
            OR drain_deadline_at < now() - interval '2 minutes')
        """,
        "Instance {subject} is stuck while {status}: look at the log of its node.",
    ),
    asks(
        "ended instances",
        "What an instance's status says, its end says too.",
        f"""
        SELECT id AS subject, status FROM (SELECT * FROM instances ORDER BY id DESC LIMIT {RECENT}) i
        WHERE (status IN ({_LIVE})) <> (ended_at IS NULL)
        """,
        "Instance {subject} is {status}, and its end says otherwise: its row was changed behind the platform's back.",
        invariant=2,
    ),
    asks(
        "nodes",
        "At least one node reports.",
        f"""
        SELECT 'nodes' AS subject, count(*) AS count FROM nodes
        HAVING coalesce(max(lease_expires_at), '-infinity') < now() - interval '{LATE_SECONDS} seconds'
        """,
        "None of {count} nodes reports: nothing can run until one is started.",
    ),
    asks(
        "lost nodes",
        "A node that stops reporting is declared lost.",
        f"""
        SELECT name AS subject, lease_expires_at FROM nodes
        WHERE boot_id <> '{REVOKED}' AND lease_expires_at < now() - interval '{LATE_SECONDS} seconds'
        """,
        "Node {subject} has not reported since before {lease_expires_at}, and the scheduler has not declared it lost: "
        "look at its log.",
    ),
    asks(
        "gpus",
        "Every GPU of a node that reports is healthy.",
        """
        SELECT n.name || ' ' || (gpu ->> 'uuid') AS subject, n.name AS node, gpu ->> 'uuid' AS uuid,
            number - 1 AS number, coalesce(rtrim(gpu ->> 'reason', '.'), 'it does not say why') AS reason
        FROM nodes n, jsonb_array_elements(n.gpus) WITH ORDINALITY AS device(gpu, number)
        WHERE n.lease_expires_at > now() AND NOT (gpu ->> 'healthy')::boolean
        """,
        "GPU {number} of node {node} ({uuid}) takes no new instances: {reason}.",
    ),
    asks(
        "node clocks",
        "The clocks of nodes are right to the minute.",
        f"""
        SELECT name AS subject, clock_offset_seconds AS off FROM nodes
        WHERE lease_expires_at > now() AND abs(clock_offset_seconds) > {_CLOCK_SECONDS}
        """,
        "The clock of node {subject} is {off:+.0f} s off the database's. Nothing depends on it, but its logs mislead: "
        "have it set by NTP.",
    ),
)
