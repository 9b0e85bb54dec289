"""Promise 8, and what else Postgres tells of its sessions: who waits for whom, who leads, how much room is left."""

from core.doctor.checks import LATE_SECONDS, asks
from core.health import LEADER_LOCK

#: No statement of ours takes longer than 30 s, and only proofs and exports have several of those.
_LONG_MINUTES = 60
_ROOM = 0.9

CHECKS = (
    asks(
        "open transactions",
        "No transaction stays open while something else is waited for.",
        f"""
        SELECT pid AS subject, application_name AS application, left(query, 60) AS query,
            extract(epoch FROM now() - state_change) AS seconds
        FROM pg_stat_activity
        WHERE datname = current_database() AND state LIKE 'idle in transaction%'
            AND state_change < now() - interval '{LATE_SECONDS} seconds'
        """,
        "Session {subject} has left a transaction open for {seconds:.0f} s after `{query}`: is its process stopped? "
        "`SELECT pg_terminate_backend({subject})` ends it.",
        invariant=8,
    ),
    asks(
        "long transactions",
        "No transaction goes on for an hour.",
        f"""
        SELECT pid AS subject, left(query, 60) AS query FROM pg_stat_activity
        WHERE datname = current_database() AND state = 'active' AND backend_type = 'client backend'
            AND xact_start < now() - interval '{_LONG_MINUTES} minutes'
        """,
        "Session {subject} has been in one transaction for over an hour, at `{query}`: dead rows pile up meanwhile.",
        invariant=8,
    ),
    asks(
        "locks",
        "Nobody waits long for a lock; a migration that does is stuck.",
        f"""
        SELECT pid AS subject, left(query, 60) AS query, array_to_string(pg_blocking_pids(pid), ', ') AS holders
        FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
            AND query_start < now() - interval '{LATE_SECONDS} seconds'
        """,
        "Session {subject} waits with `{query}` for a lock that session {holders} holds: let that end, or end it.",
    ),
    asks(
        "room",
        "Postgres has connections left.",
        f"""
        SELECT 'connections' AS subject, count(*) AS used, current_setting('max_connections')::int AS most
        FROM pg_stat_activity WHERE backend_type = 'client backend'
        HAVING count(*) > {_ROOM} * current_setting('max_connections')::int
        """,
        "{used} of {most} connections are in use: raise max_connections, or lower MILLRACE_DATABASE_POOL.",
    ),
    asks(
        "leader",
        "One scheduler leads.",
        f"""
        SELECT 'scheduler' AS subject WHERE NOT EXISTS (SELECT FROM pg_locks
            WHERE locktype = 'advisory' AND granted AND objid = {LEADER_LOCK}
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
        """,
        "No scheduler leads: nothing is placed, rescued or retried until one is started.",
    ),
)
