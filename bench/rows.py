"""Fills the table of predictions as an instance that has run for a month would have, without running any."""

from dataclasses import dataclass

import psycopg
from sqlalchemy import text

from core import catalog
from core.hardware import CPU
from core.people import accounts, tokens
from core.resources import Resources

#: How many of each owner's were made on a page and not through the API: a filter must find these few among all.
_FROM_WEB = 120
_LOGS = 1_000
"""Different texts of 2 kB, of lines such as a progress bar leaves."""

_TEXTS = f"""
CREATE TEMPORARY TABLE texts ON COMMIT DROP AS
SELECT number, (
    SELECT string_agg(format('step %s of 48: loss %s, %s it/s', line, random()::numeric(8, 6), random()::numeric(6, 4)),
                      E'\\n')
    FROM generate_series(1, 48) AS line WHERE number > 0
) AS logs
FROM generate_series(1, {_LOGS}) AS number
"""

_PREDICTIONS = f"""
INSERT INTO predictions (
    id, account_id, model, version_id, target, hardware_sku, source, status, input, output, logs, metrics, stream_kind,
    attempt, price_nanos_per_second, created_at, started_at, completed_at
)
SELECT
    lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || substr(md5(random()::text), 1, 14),
    (%(accounts)s::text[])[1 + n %% %(owners)s],
    'bench/model', repeat('0123456789abcdef', 4), 'version:bench', %(sku)s,
    CASE WHEN n / %(owners)s %% (%(count)s / %(owners)s / {_FROM_WEB}) = 0 THEN 'web' ELSE 'api' END,
    CASE WHEN n %% 20 = 0 THEN 'failed' ELSE 'succeeded' END,
    jsonb_build_object(
        'prompt', 'An astronaut riding a rainbow unicorn, cinematic, dramatic, number ' || n, 'seed', n,
        'width', 1024, 'height', 1024, 'guidance_scale', 7.5, 'num_inference_steps', 48, 'scheduler', 'K_EULER'
    ),
    jsonb_build_array('millrace-file:' || substr(md5(n::text) || md5((-n)::text), 1, 40) || '/out-0.png'),
    texts.logs,
    jsonb_build_object('predict_time', 4.25 + random()),
    'files', 1, 100000, moment, moment + interval '120 milliseconds', moment + interval '5 seconds'
FROM generate_series(1, %(count)s) AS n
CROSS JOIN LATERAL (SELECT now() - interval '30 days' * n / %(count)s AS moment) AS moments
JOIN texts ON texts.number = 1 + n %% {_LOGS}
"""


@dataclass(frozen=True, slots=True)
class Filled:
    """Whose rows were written, and the token that reads them."""

    account_id: str
    token: str


async def fill(resources: Resources, predictions: int, owners: int) -> list[Filled]:
    """So many predictions over the last 30 days, in turns of so many accounts."""
    found = []
    for number in range(owners):
        token = tokens.new_token()
        async with resources.database.transaction() as tx:
            account = await accounts.ensure(tx, f"owner-{number}", f"Owner {number}")
            await tokens.add(tx, account.id, token, "bench")
            await catalog.put_hardware(tx, CPU.sku, CPU.name, CPU.price_nanos_per_second)
        found.append(Filled(account.id, token))
    values = {
        "accounts": [one.account_id for one in found],
        "owners": owners,
        "sku": CPU.sku,
        "count": predictions,
    }
    async with await psycopg.AsyncConnection.connect(resources.settings.database_url) as connection:
        await connection.execute(_TEXTS)
        await connection.execute(_PREDICTIONS, values)
        await connection.commit()
        await connection.set_autocommit(True)
        await connection.execute("VACUUM (ANALYZE) predictions")
        await connection.execute("CHECKPOINT")
    return found


async def table_size(resources: Resources) -> str:
    """Rows, indexes and what is kept beside them."""
    async with resources.database.autocommit() as tx:
        return await tx.scalar(text("SELECT pg_size_pretty(pg_total_relation_size('predictions'))"))
