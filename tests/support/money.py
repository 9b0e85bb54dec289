"""The books of some Accounts, read straight from the tables: what must hold of them whatever has happened.

Written without the code it checks. Nothing here knows prices; `tests/core/money_machine.py` prices every run again.
"""

from collections.abc import Sequence

from sqlalchemy import ARRAY, Row, Text, bindparam, text

from core.database import Hot, Transaction


def _of_accounts(sql: str) -> Hot:
    return Hot(text(sql).bindparams(bindparam("p_accounts", type_=ARRAY(Text))))


_BOOKS = _of_accounts(
    """
    SELECT w.*, p.amount_nanos AS pending_nanos, p.released_nanos, l.*, c.*,
        (SELECT coalesce(sum(held_nanos), 0) FROM predictions r
            WHERE r.account_id = w.account_id AND r.completed_at IS NULL)::bigint AS live_holds_nanos
    FROM wallets w
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(amount_nanos), 0)::bigint AS amount_nanos,
            coalesce(sum(released_nanos), 0)::bigint AS released_nanos
        FROM wallet_postings WHERE account_id = w.account_id
    ) p
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(amount_nanos), 0)::bigint AS ledger_nanos,
            coalesce(sum(amount_nanos) FILTER (WHERE kind = 'discount'), 0)::bigint AS discount_nanos,
            coalesce(-sum(amount_nanos) FILTER (WHERE kind = 'expiry'), 0)::bigint AS expired_nanos,
            coalesce(-sum(amount_nanos) FILTER (WHERE kind = 'usage'), 0)::bigint AS charged_nanos,
            coalesce(sum(amount_nanos) FILTER (WHERE kind IN ('waiver', 'discount', 'refund')), 0)::bigint
                AS given_back_nanos
        FROM ledger_entries WHERE ledger_account = 'account:' || w.account_id
    ) l
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(remaining_nanos), 0)::bigint AS credit_nanos,
            coalesce(sum(expired_nanos), 0)::bigint AS credit_expired_nanos
        FROM credits WHERE account_id = w.account_id
    ) c
    WHERE w.account_id = ANY(:p_accounts)
    """
)

_UNBALANCED = _of_accounts(
    """
    SELECT transaction_id, sum(amount_nanos) FROM ledger_entries WHERE transaction_id IN (
        SELECT transaction_id FROM ledger_entries
        WHERE ledger_account = ANY(SELECT 'account:' || id FROM unnest(:p_accounts) AS id)
    ) GROUP BY transaction_id HAVING sum(amount_nanos) <> 0 OR count(*) <> 2
    """
)

_UNCHARGED = _of_accounts(
    """
    SELECT u.id, u.amount_nanos, e.charged FROM usage_records u
    LEFT JOIN LATERAL (
        SELECT sum(amount_nanos) AS charged, count(*) AS entries FROM ledger_entries
        WHERE transaction_id = u.id AND kind = 'usage' AND ledger_account = 'account:' || u.account_id
    ) e ON true
    WHERE u.account_id = ANY(:p_accounts) AND (e.entries <> 1 OR e.charged <> -u.amount_nanos)
    """
)

_GIVEN_BACK_TOO_MUCH = _of_accounts(
    """
    SELECT u.id, u.amount_nanos, sum(e.amount_nanos) FROM usage_records u
    JOIN ledger_entries e ON e.ledger_account = 'account:' || u.account_id
        AND (e.corrects = u.id OR e.usage_record_id = u.id AND e.kind = 'waiver')
    WHERE u.account_id = ANY(:p_accounts)
    GROUP BY u.id HAVING sum(e.amount_nanos) > u.amount_nanos
    """
)

_KEYS_OF_DAY = "account_id, day, model, coalesce(deployment, ''), hardware_sku, phase, coalesce(outcome, '')"
_KEYS_OF_HOUR = (
    "account_id, date_trunc('hour', ended_at), model, version_id, coalesce(deployment, ''), hardware_sku, "
    "coalesce(token_id, ''), phase, coalesce(outcome, '')"
)
_MISSUMMED = _of_accounts(
    f"""
    WITH folded AS (
        SELECT * FROM usage_records u WHERE u.account_id = ANY(:p_accounts)
            AND NOT EXISTS (SELECT FROM wallet_postings p WHERE p.usage_record_id = u.id)
    ), days AS (
        SELECT {_KEYS_OF_DAY}, count(*) FILTER (WHERE cause_kind = 'prediction'), sum(micros), sum(amount_nanos)
        FROM folded GROUP BY {_KEYS_OF_DAY}
    ), hours AS (
        SELECT {_KEYS_OF_HOUR}, count(*) FILTER (WHERE cause_kind = 'prediction'), sum(micros), sum(amount_nanos)
        FROM folded GROUP BY {_KEYS_OF_HOUR}
    ), tags AS (
        SELECT account_id, day, t.key, t.value, model, count(*) FILTER (WHERE cause_kind = 'prediction'), sum(micros),
            sum(amount_nanos)
        FROM folded, jsonb_each_text(tags) t WHERE tags IS NOT NULL GROUP BY account_id, day, t.key, t.value, model
    ), rolled_days AS (
        SELECT account_id, day, model, deployment, hardware_sku, phase, outcome, runs, micros, amount_nanos
        FROM usage_days WHERE account_id = ANY(:p_accounts)
    ), rolled_hours AS (
        SELECT account_id, hour, model, version_id, deployment, hardware_sku, token_id, phase, outcome, runs, micros,
            amount_nanos
        FROM usage_hours WHERE account_id = ANY(:p_accounts)
    ), rolled_tags AS (
        SELECT account_id, day, key, value, model, runs, micros, amount_nanos
        FROM usage_tags WHERE account_id = ANY(:p_accounts)
    )
    SELECT 'days' AS which, d::text FROM (TABLE days EXCEPT TABLE rolled_days) d
    UNION ALL SELECT 'rolled days', d::text FROM (TABLE rolled_days EXCEPT TABLE days) d
    UNION ALL SELECT 'hours', h::text FROM (TABLE hours EXCEPT TABLE rolled_hours) h
    UNION ALL SELECT 'rolled hours', h::text FROM (TABLE rolled_hours EXCEPT TABLE hours) h
    UNION ALL SELECT 'tags', t::text FROM (TABLE tags EXCEPT TABLE rolled_tags) t
    UNION ALL SELECT 'rolled tags', t::text FROM (TABLE rolled_tags EXCEPT TABLE tags) t
    """
)

_MISBURNT = _of_accounts(
    """
    SELECT c.id, c.amount_nanos, c.remaining_nanos, c.expired_nanos, b.burnt FROM credits c
    LEFT JOIN LATERAL (
        SELECT coalesce(sum(amount_nanos), 0) AS burnt FROM credit_burns WHERE credit_id = c.id
    ) b ON true
    WHERE c.account_id = ANY(:p_accounts)
        AND (c.amount_nanos <> c.remaining_nanos + c.expired_nanos + b.burnt OR c.remaining_nanos < 0)
    """
)

_PROOFS = {
    "transactions that are no transfer of two sides that sum to zero": _UNBALANCED,
    "usage records that are not charged exactly once": _UNCHARGED,
    "charges of which more was given back than they were": _GIVEN_BACK_TOO_MUCH,
    "roll-ups that are not the sum of their usage records": _MISSUMMED,
    "credits that are not what is left of them, was used, and expired": _MISBURNT,
}


async def books(tx: Transaction, accounts: Sequence[str]) -> dict[str, Row]:
    """Each Account's wallet, with what postings, ledger, credits and live predictions say beside it; checked."""
    rows = await tx.rows(_BOOKS, {"p_accounts": list(accounts)})
    for row in rows:
        _check(row)
    return {row.account_id: row for row in rows}


def _check(row: Row) -> None:
    assert row.balance_nanos + row.pending_nanos == row.ledger_nanos, f"wallet and postings are not the ledger: {row}"
    assert row.held_nanos - row.released_nanos == row.live_holds_nanos, f"a hold is lost, or nobody's: {row}"
    assert row.credit_nanos == max(row.balance_nanos, 0), f"credits are not what the wallet has: {row}"
    assert row.given_back_nanos <= row.charged_nanos, f"more was given back than was charged: {row}"
    assert row.credit_expired_nanos == row.expired_nanos, f"credits expired that the ledger knows nothing of: {row}"


async def prove(tx: Transaction, accounts: Sequence[str]) -> dict[str, Row]:
    """All that must hold of these Accounts; folded or not."""
    for problem, proof in _PROOFS.items():
        found = await tx.rows(proof, {"p_accounts": list(accounts)})
        assert not found, f"{problem}: {found[:10]}"
    return await books(tx, accounts)
