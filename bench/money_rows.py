"""Fills usage records and their roll-ups as an installation that has run for a month would have, without running any.

No ledger entries for the charges: the pages read those of single runs only, by their key. The roll-ups are made by the
platform's own statements.
"""

import time
from typing import Any

import psycopg
from rich.console import Console
from sqlalchemy import Select

from core.database import Hot
from core.money import wallets
from core.money.pricing import NANOS_PER_DOLLAR
from core.people import accounts
from core.resources import Resources
from core.tables import UsageHour, UsageTag
from core.usage import rollups

ACCOUNTS, MODELS, DAYS = 200, 60, 30

#: Few Accounts use much, and each uses few Models; a thirtieth is time of Instances.
_USAGE = f"""
INSERT INTO usage_records (
    id, cause_kind, cause_id, account_id, account_name, model, version_id, hardware_sku, token_id, tags, phase,
    outcome, failure_code, micros, price_id, price_nanos_per_second, amount_nanos, day, started_at, ended_at
)
SELECT
    kind || ':' || cause, kind, cause, account_id, 'bench-' || who, 'bench/model-' || which,
    md5('bench/model-' || which), 'bench-' || which %% 4,
    CASE WHEN kind = 'prediction' THEN 'token-' || who || '-' || n %% 3 END,
    CASE WHEN kind = 'prediction' AND n %% 3 = 0 THEN jsonb_build_object('project', 'p' || n %% 12) END,
    CASE WHEN kind = 'prediction' THEN 'active' ELSE (ARRAY['setup', 'idle', 'active'])[1 + n %% 3] END,
    CASE WHEN kind = 'prediction' THEN CASE WHEN n %% 23 = 0 THEN 'failed' ELSE 'succeeded' END END,
    CASE WHEN kind = 'prediction' AND n %% 23 = 0 THEN 'model_error' END,
    micros, 'hardware:bench-' || which %% 4, 725000, micros * 725000 / 1000000,
    (moment AT TIME ZONE 'UTC')::date, moment - micros * interval '1 microsecond', moment
FROM (
    SELECT n, moment, who, (who * 7 + floor(9 * random() ^ 2)::int) %% {MODELS} AS which, micros,
        (%(accounts)s::text[])[1 + who] AS account_id,
        CASE WHEN n %% 30 = 7 THEN 'instance' ELSE 'prediction' END AS kind,
        lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || lpad(n::text, 14, '0') AS cause
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
    CROSS JOIN LATERAL (
        SELECT now() - interval '{DAYS} days' * (1 - n / %(count)s::float8) AS moment,
            floor({ACCOUNTS} * random() ^ 3)::int AS who, (1000000 * (0.5 + 20 * random() ^ 4))::bigint AS micros
    ) AS drawn
) AS runs
"""
_AT_ONCE = 500_000

_DAYS = """
INSERT INTO usage_days
SELECT (hour AT TIME ZONE 'UTC')::date, account_id, model, deployment, hardware_sku, phase, outcome,
    sum(runs), sum(micros), sum(amount_nanos), sum(cost_nanos)
FROM usage_hours GROUP BY 1, 2, 3, 4, 5, 6, 7
"""

_OTHER_INDEXES = """
SELECT indexname AS name, indexdef AS definition FROM pg_indexes
WHERE tablename = 'usage_records' AND indexname NOT IN (SELECT conname FROM pg_constraint)
"""


async def fill(resources: Resources, count: int) -> list[str]:
    """Ids of the Accounts; the first use the most."""
    console = Console()
    ids = [await _account(resources, number) for number in range(ACCOUNTS)]
    connecting = psycopg.AsyncConnection.connect(resources.settings.database_url, autocommit=True)
    async with await connecting as connection:
        # Foreign keys are looked up row by row, and what is in a table of its own needs no log.
        for setting in ("session_replication_role = replica", "synchronous_commit = off", "work_mem = '512MB'"):
            await connection.execute(f"SET {setting}")
        await connection.execute("SET maintenance_work_mem = '1GB'")
        indexes = await (await connection.execute(_OTHER_INDEXES)).fetchall()
        for name, _ in indexes:
            await connection.execute(f"DROP INDEX {name}")
        began = time.monotonic()
        for first in range(1, count + 1, _AT_ONCE):
            values = {"accounts": ids, "count": count, "first": first, "last": min(first + _AT_ONCE - 1, count)}
            await connection.execute(_USAGE, values)
            console.print(f"{values['last']:,} usage records after {time.monotonic() - began:.0f} s")
        for _, definition in indexes:
            await connection.execute(definition)
        await _roll_up(connection, UsageHour.__table__, rollups.summed(UsageHour.__table__))
        await connection.execute(_DAYS)
        await _roll_up(connection, UsageTag.__table__, rollups.tagged())
        for table in ("usage_records", "usage_hours", "usage_days", "usage_tags"):
            await connection.execute(f"VACUUM (ANALYZE) {table}")
        console.print(f"Rolled up and indexed after {time.monotonic() - began:.0f} s.")
        await connection.execute("CHECKPOINT")
    return ids


async def _account(resources: Resources, number: int) -> str:
    async with resources.database.transaction() as tx:
        row = await accounts.ensure(tx, f"bench-{number}", f"Bench {number}")
        await wallets.set_terms(tx, row.id, credit_limit_nanos=100 * NANOS_PER_DOLLAR)
    return row.id


async def _roll_up(connection: psycopg.AsyncConnection, table: Any, rows: Select) -> None:
    columns = [column.name for column in table.primary_key]
    columns += [name for name in ("runs", "micros", "amount_nanos", "cost_nanos") if name in table.c]
    summing = Hot(rows)
    await connection.execute(f"INSERT INTO {table.name} ({', '.join(columns)}) {summing.sql}", summing.bind({}))


async def sizes(resources: Resources) -> dict[str, tuple[int, str]]:
    """Rows and bytes, indexes included."""
    found = {}
    async with await psycopg.AsyncConnection.connect(resources.settings.database_url) as connection:
        for table in ("usage_records", "usage_hours", "usage_days", "usage_tags"):
            asked = f"SELECT count(*), pg_size_pretty(pg_total_relation_size('{table}')) FROM {table}"
            found[table] = await (await connection.execute(asked)).fetchone()
    return found
