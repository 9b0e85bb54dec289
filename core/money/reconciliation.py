"""Proves that the books agree, and names each place where they do not.

    ledger    every transaction sums to zero, and every charge is that of one usage record
    balances  wallets and what is yet to be added up = ledger = what is left of credits
    holds     what wallets hold = what is set aside for what waits and runs
    usage     usage records = predictions that were measured, at the prices of the book
    sums      roll-ups and what is yet to be added up = usage records
    invoices  numbers without gaps

All of it in one snapshot, so that what goes on meanwhile makes no difference. Reads everything; takes about a second
for each hundred thousand usage records.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Row, text

from core.database import Transaction
from core.money.pricing import MOST_CHARGE_NANOS

#: Of one kind, so many are named; the rest are counted.
SHOWN = 20
#: A month of a busy installation.
_TIMEOUT_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Check:
    """A promise, and the rows that break it: `subject`, `expected`, `found`; the last two in words or nanodollars."""

    name: str
    promise: str
    sql: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A promise that does not hold, with the first rows that break it and how many there are."""

    check: Check
    count: int
    rows: Sequence[Row]


CHECKS = (
    Check(
        "transactions",
        "Every ledger transaction sums to zero.",
        """
        SELECT transaction_id AS subject, 0 AS expected, sum(amount_nanos) AS found
        FROM ledger_entries GROUP BY transaction_id HAVING sum(amount_nanos) <> 0
        """,
    ),
    Check(
        "charges",
        "Every usage record has one charge, of its own amount.",
        """
        SELECT u.id AS subject, u.amount_nanos AS expected, -e.amount_nanos AS found
        FROM usage_records u LEFT JOIN ledger_entries e
            ON e.transaction_id = u.id AND e.ledger_account = 'account:' || u.account_id AND e.kind = 'usage'
        WHERE e.amount_nanos IS DISTINCT FROM -u.amount_nanos
        """,
    ),
    Check(
        "uncaused charges",
        "Every charge is that of a usage record.",
        """
        SELECT e.transaction_id AS subject, 0 AS expected, e.amount_nanos AS found
        FROM ledger_entries e LEFT JOIN usage_records u ON u.id = e.transaction_id
        WHERE e.kind = 'usage' AND u.id IS NULL
        """,
    ),
    Check(
        "predictions",
        "Every prediction that was measured has one usage record, of the same time.",
        """
        SELECT p.id AS subject, p.micros AS expected, u.micros AS found
        FROM predictions p LEFT JOIN usage_records u ON u.cause_kind = 'prediction' AND u.cause_id = p.id
        WHERE p.completed_at IS NOT NULL AND p.micros IS DISTINCT FROM u.micros
            -- What ended before there was a price book has no time of its own.
            AND (p.price_id IS NOT NULL OR p.micros IS NOT NULL)
        """,
    ),
    Check(
        "ends",
        "No prediction that waits or runs has been charged.",
        """
        SELECT p.id AS subject, 0 AS expected, u.amount_nanos AS found
        FROM predictions p JOIN usage_records u ON u.cause_kind = 'prediction' AND u.cause_id = p.id
        WHERE p.completed_at IS NULL
        """,
    ),
    Check(
        "prices",
        "Every usage record by the second is at the price it names, and comes to its time at that price.",
        f"""
        SELECT u.id AS subject, u.micros::numeric * u.price_nanos_per_second / 1000000 AS expected,
            u.amount_nanos AS found
        FROM usage_records u LEFT JOIN prices p ON p.id = u.price_id
        WHERE u.units IS NULL AND (
            u.amount_nanos <> least(div(u.micros::numeric * u.price_nanos_per_second, 1000000), {MOST_CHARGE_NANOS})
            OR (u.price_nanos_per_second <> 0 AND p.nanos_per_unit IS DISTINCT FROM u.price_nanos_per_second
                AND u.price_id IS NOT NULL)
        )
        """,
    ),
    Check(
        "units",
        "Every usage record by the unit comes to the sum of its lines, at the prices they name.",
        f"""
        SELECT u.id AS subject, sum((line ->> 'amount_nanos')::bigint) AS expected, u.amount_nanos AS found
        FROM usage_records u, jsonb_array_elements(u.units) AS line LEFT JOIN prices p ON p.id = line ->> 'price_id'
        WHERE u.units IS NOT NULL
        GROUP BY u.id, u.amount_nanos
        HAVING sum((line ->> 'amount_nanos')::bigint) <> u.amount_nanos
            OR bool_or(p.nanos_per_unit IS DISTINCT FROM (line ->> 'nanos_per_unit')::bigint)
            OR bool_or((line ->> 'amount_nanos')::bigint <> least(
                trunc((line ->> 'quantity')::numeric * (line ->> 'nanos_per_unit')::bigint), {MOST_CHARGE_NANOS}))
        """,
    ),
    Check(
        "balances",
        "Every wallet, with what is yet to be added up, has what the ledger says.",
        """
        SELECT w.account_id AS subject, coalesce(l.nanos, 0) AS expected,
            w.balance_nanos + coalesce(p.nanos, 0) AS found
        FROM wallets w
        LEFT JOIN (SELECT ledger_account, sum(amount_nanos) AS nanos FROM ledger_entries
            WHERE ledger_account LIKE 'account:%' GROUP BY 1) l ON l.ledger_account = 'account:' || w.account_id
        LEFT JOIN (SELECT account_id, sum(amount_nanos) AS nanos FROM wallet_postings GROUP BY 1) p USING (account_id)
        WHERE w.balance_nanos + coalesce(p.nanos, 0) <> coalesce(l.nanos, 0)
        """,
    ),
    Check(
        "wallets",
        "Every account has a wallet.",
        """
        SELECT a.id AS subject, 1 AS expected, 0 AS found
        FROM accounts a LEFT JOIN wallets w ON w.account_id = a.id WHERE w.account_id IS NULL
        """,
    ),
    Check(
        "holds",
        "What a wallet holds is set aside for what waits and runs, or about to be released.",
        """
        SELECT w.account_id AS subject,
            coalesce(r.nanos, 0) + coalesce(i.nanos, 0) + coalesce(p.nanos, 0) AS expected, w.held_nanos AS found
        FROM wallets w
        LEFT JOIN (SELECT account_id, sum(held_nanos) AS nanos FROM predictions
            WHERE completed_at IS NULL GROUP BY 1) r USING (account_id)
        LEFT JOIN (SELECT owner_id AS account_id, sum(held_nanos) AS nanos FROM instances GROUP BY 1) i
            USING (account_id)
        LEFT JOIN (SELECT account_id, sum(released_nanos) AS nanos FROM wallet_postings GROUP BY 1) p USING (account_id)
        WHERE w.held_nanos <> coalesce(r.nanos, 0) + coalesce(i.nanos, 0) + coalesce(p.nanos, 0)
        """,
    ),
    Check(
        "credits",
        "What is left of an account's credits is what its wallet has above zero.",
        """
        SELECT w.account_id AS subject, greatest(w.balance_nanos, 0) AS expected, coalesce(c.nanos, 0) AS found
        FROM wallets w
        LEFT JOIN (SELECT account_id, sum(remaining_nanos) AS nanos FROM credits GROUP BY 1) c USING (account_id)
        WHERE coalesce(c.nanos, 0) <> greatest(w.balance_nanos, 0)
        """,
    ),
    Check(
        "burns",
        "Of every credit, what is used, expired and left adds up to its amount.",
        """
        SELECT c.id AS subject, c.amount_nanos AS expected,
            c.remaining_nanos + c.expired_nanos + coalesce(b.nanos, 0) AS found
        FROM credits c
        LEFT JOIN (SELECT credit_id, sum(amount_nanos) AS nanos FROM credit_burns GROUP BY 1) b ON b.credit_id = c.id
        WHERE c.amount_nanos <> c.remaining_nanos + c.expired_nanos + coalesce(b.nanos, 0) OR c.remaining_nanos < 0
        """,
    ),
    Check(
        "top-ups",
        "Every top-up that was paid became a credit of its amount.",
        """
        SELECT t.id AS subject, t.amount_nanos AS expected, c.amount_nanos AS found
        FROM top_ups t LEFT JOIN credits c ON c.id = t.id
        WHERE t.status = 'succeeded' AND c.amount_nanos IS DISTINCT FROM t.amount_nanos
        """,
    ),
    Check(
        "refunds",
        "No charge has been given back beyond its amount.",
        """
        SELECT u.id AS subject, u.amount_nanos AS expected, sum(e.amount_nanos) AS found
        FROM ledger_entries e JOIN usage_records u ON u.id = e.corrects
        WHERE e.ledger_account = 'account:' || u.account_id
        GROUP BY u.id, u.amount_nanos HAVING sum(e.amount_nanos) > u.amount_nanos
        """,
    ),
    Check(
        "days",
        "The roll-up by day, with what is yet to be added up, has what the usage records say.",
        """
        SELECT coalesce(u.day, d.day) || ' ' || coalesce(u.account_id, d.account_id) AS subject,
            coalesce(u.nanos, 0) AS expected, coalesce(d.nanos, 0) AS found
        FROM (SELECT r.day, r.account_id, sum(r.amount_nanos) AS nanos, sum(r.micros) AS micros,
                count(*) FILTER (WHERE r.cause_kind = 'prediction') AS runs
            FROM usage_records r LEFT JOIN wallet_postings p ON p.usage_record_id = r.id
            WHERE p.id IS NULL GROUP BY 1, 2) u
        FULL JOIN (SELECT day, account_id, sum(amount_nanos) AS nanos, sum(micros) AS micros, sum(runs) AS runs
            FROM usage_days GROUP BY 1, 2) d ON d.day = u.day AND d.account_id = u.account_id
        WHERE (coalesce(u.nanos, 0), coalesce(u.micros, 0), coalesce(u.runs, 0))
            <> (coalesce(d.nanos, 0), coalesce(d.micros, 0), coalesce(d.runs, 0))
        """,
    ),
    Check(
        "hours",
        "The roll-up by hour comes to the same as that by day.",
        """
        SELECT coalesce(h.day, d.day) || ' ' || coalesce(h.account_id, d.account_id) AS subject,
            coalesce(d.nanos, 0) AS expected, coalesce(h.nanos, 0) AS found
        FROM (SELECT (hour AT TIME ZONE 'UTC')::date AS day, account_id, sum(amount_nanos) AS nanos,
                sum(micros) AS micros FROM usage_hours GROUP BY 1, 2) h
        FULL JOIN (SELECT day, account_id, sum(amount_nanos) AS nanos, sum(micros) AS micros
            FROM usage_days GROUP BY 1, 2) d ON d.day = h.day AND d.account_id = h.account_id
        WHERE (coalesce(h.nanos, 0), coalesce(h.micros, 0)) <> (coalesce(d.nanos, 0), coalesce(d.micros, 0))
        """,
    ),
    Check(
        "discounts",
        "What was given back for volume is what the ledger says.",
        """
        SELECT coalesce(l.account_id, v.account_id) AS subject,
            coalesce(v.nanos, 0) AS expected, coalesce(l.nanos, 0) AS found
        FROM (SELECT account_id, sum(discount_nanos) AS nanos FROM volumes GROUP BY 1) v
        FULL JOIN (SELECT substr(ledger_account, 9) AS account_id, sum(amount_nanos) AS nanos FROM ledger_entries
            WHERE kind = 'discount' AND ledger_account LIKE 'account:%' GROUP BY 1) l ON l.account_id = v.account_id
        WHERE coalesce(v.nanos, 0) <> coalesce(l.nanos, 0)
        """,
    ),
    Check(
        "instances",
        "The time of every instance is in its usage records, or waits to be.",
        """
        SELECT i.id AS subject, i.setup_micros + i.idle_micros + i.active_micros AS expected,
            coalesce(u.micros, 0) + coalesce(t.micros, 0) AS found
        FROM instances i
        LEFT JOIN (SELECT split_part(cause_id, ':', 1) AS id, sum(micros) AS micros FROM usage_records
            WHERE cause_kind = 'instance' GROUP BY 1) u ON u.id = i.id
        LEFT JOIN (SELECT instance_id AS id, sum(micros) AS micros FROM instance_times GROUP BY 1) t ON t.id = i.id
        WHERE i.setup_micros + i.idle_micros + i.active_micros <> coalesce(u.micros, 0) + coalesce(t.micros, 0)
        """,
    ),
    Check(
        "invoices",
        "Issued invoices are numbered without gaps.",
        """
        SELECT s.series AS subject, s.last_number AS expected, count(i.id) AS found
        FROM invoice_series s LEFT JOIN invoices i ON i.number LIKE s.series || '-%' AND i.status = 'issued'
        GROUP BY s.series, s.last_number HAVING count(i.id) <> s.last_number
        """,
    ),
)


async def differences(tx: Transaction) -> list[Difference]:
    """Every promise that does not hold, in one snapshot; empty: the books agree. First thing in a transaction."""
    await tx.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
    await tx.execute(text(f"SET LOCAL statement_timeout = '{_TIMEOUT_SECONDS}s'"))
    return await broken(tx)


async def broken(tx: Transaction) -> list[Difference]:
    """The same as the transaction sees it, with what it has written itself."""
    return [found for check in CHECKS if (found := await _broken(tx, check)) is not None]


async def _broken(tx: Transaction, check: Check) -> Difference | None:
    rows = await tx.all(
        text(f"SELECT *, count(*) OVER () AS total FROM ({check.sql}) AS broken ORDER BY subject LIMIT {SHOWN}")
    )
    return Difference(check, rows[0].total, rows) if rows else None


async def totals(tx: Transaction) -> Row:
    """What there is, in one line: ledger, balances, usage and predictions; to be shown beside `differences`."""
    return await tx.one(
        text(
            """
            SELECT
                (SELECT coalesce(sum(amount_nanos), 0) FROM ledger_entries WHERE ledger_account LIKE 'account:%')
                    AS ledger_nanos,
                (SELECT coalesce(sum(balance_nanos), 0) FROM wallets)
                    + (SELECT coalesce(sum(amount_nanos), 0) FROM wallet_postings) AS balance_nanos,
                (SELECT count(*) FROM usage_records WHERE cause_kind = 'prediction') AS usage_records,
                (SELECT count(*) FROM predictions WHERE micros IS NOT NULL) AS measured_predictions,
                (SELECT coalesce(sum(amount_nanos), 0) FROM usage_records) AS usage_nanos,
                (SELECT coalesce(sum(amount_nanos), 0) FROM usage_days) AS rolled_up_nanos
            """
        )
    )
