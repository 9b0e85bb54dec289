"""Spend limits: counted by month, for an Account, a Token or a Model; each threshold told once."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import func, select

from core.errors import Invalid, NotFound
from core.ids import new_id
from core.money import limits
from core.money.pricing import MICROS_PER_SECOND
from core.resources import Resources
from core.tables import Alert, SpendLimit
from tests.support.factories import PRICE_NANOS_PER_SECOND as SECOND
from tests.support.payer import Payer, open_payer


async def put(payer: Payer, scope: str, seconds: int, **terms: Any) -> str:
    return (await payer.do(limits.put, payer.id, scope=scope, limit_nanos=seconds * SECOND, **terms)).id


async def told(payer: Payer) -> list[int]:
    rows = await payer.rows(select(Alert).where(Alert.account_id == payer.id).order_by(Alert.created_at))
    return sorted(row.details["threshold"] for row in rows)


async def reached(payer: Payer) -> list[str]:
    return [row.id for row in await payer.do(limits.reached, payer.id)]


async def test_each_threshold_is_told_once_a_month(resources: Resources) -> None:
    payer = await open_payer(resources, limit=None)
    await put(payer, "account", 10, thresholds=[50, 80, 100])
    seen = []
    for _ in range(12):
        await payer.run(MICROS_PER_SECOND)
        seen.append(await told(payer))
    assert seen == [[]] * 4 + [[50]] * 3 + [[50, 80]] * 2 + [[50, 80, 100]] * 3


async def test_one_run_may_pass_several_thresholds(resources: Resources) -> None:
    payer = await open_payer(resources, limit=None)
    limit = await put(payer, "account", 1)
    await payer.run(5 * MICROS_PER_SECOND)
    assert await told(payer) == [50, 80, 100]
    assert await reached(payer) == [limit]


async def test_a_limit_counts_what_its_token_or_model_spent_and_nothing_else(resources: Resources) -> None:
    payer = await open_payer(resources, limit=None)
    other = await open_payer(resources, limit=None)
    elsewhere = Payer(resources, payer.id, other.runnable, other.holder)
    stranger = Payer(resources, other.id, payer.runnable, payer.holder)
    token = new_id()
    of_token = await put(payer, "token", 2, subject=token)
    of_model = await put(payer, "model", 3, subject=payer.runnable.model)
    await payer.run(MICROS_PER_SECOND, token_id=token)
    await elsewhere.run(MICROS_PER_SECOND, token_id=token)
    await stranger.run(MICROS_PER_SECOND, token_id=token)
    await payer.run(MICROS_PER_SECOND)
    rows = {row.id: row.spent_nanos for row in await payer.do(limits.of_account, payer.id)}
    assert rows == {of_token: 2 * SECOND, of_model: 2 * SECOND}
    [row] = await payer.do(limits.reached, payer.id)
    assert row.id == of_token
    assert limits.applies(row, token, payer.runnable.model)
    assert not limits.applies(row, new_id(), payer.runnable.model)
    assert f"for the token {token}" in limits.explain(row)


async def test_a_limit_set_late_counts_the_month_so_far(resources: Resources) -> None:
    payer = await open_payer(resources, limit=None)
    await payer.run(2 * MICROS_PER_SECOND)
    limit = await put(payer, "account", 2)
    assert await reached(payer) == [limit]
    assert await told(payer) == [50, 80, 100]


async def test_a_limit_that_only_tells_stops_nothing(resources: Resources) -> None:
    payer = await open_payer(resources, limit=None)
    await put(payer, "account", 1, stops=False)
    await payer.run(2 * MICROS_PER_SECOND)
    assert await reached(payer) == []
    assert await told(payer) == [50, 80, 100]


async def test_a_new_month_begins_at_nothing_and_is_told_anew(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    payer = await open_payer(resources, limit=None)
    await put(payer, "account", 1, thresholds=[100])
    await payer.run(MICROS_PER_SECOND)
    assert await told(payer) == [100]
    next_month = datetime(2031, 2, 1, tzinfo=UTC)
    monkeypatch.setattr(limits, "now", lambda: next_month)
    assert await reached(payer) == []
    await payer.do(limits.watch, [payer.id])
    [row] = await payer.rows(select(SpendLimit).where(SpendLimit.account_id == payer.id))
    assert (row.spent_nanos, row.month) == (0, next_month.date())


async def test_a_limit_of_nothing_stops_everything(resources: Resources) -> None:
    payer = await open_payer(resources, limit=None)
    limit = await put(payer, "account", 0)
    assert await reached(payer) == [limit]
    assert await told(payer) == [], "nothing has been spent"


async def test_a_removed_limit_is_gone(resources: Resources) -> None:
    payer = await open_payer(resources, limit=None)
    limit = await put(payer, "account", 0)
    await payer.do(limits.remove, payer.id, limit)
    assert await reached(payer) == []
    with pytest.raises(NotFound):
        await payer.do(limits.remove, payer.id, limit)
    count = select(func.count()).where(SpendLimit.account_id == payer.id)
    assert [tuple(row) for row in await payer.rows(count)] == [(0,)]


@pytest.mark.parametrize(
    "terms",
    [
        {"scope": "planet", "limit_nanos": 1},
        {"scope": "token", "limit_nanos": 1},
        {"scope": "account", "subject": "x", "limit_nanos": 1},
        {"scope": "account", "limit_nanos": -1},
        {"scope": "account", "limit_nanos": 1, "thresholds": [0]},
        {"scope": "account", "limit_nanos": 1, "thresholds": [1001]},
    ],
)
async def test_what_is_no_limit_is_refused(resources: Resources, terms: dict[str, Any]) -> None:
    payer = await open_payer(resources)
    with pytest.raises(Invalid):
        await payer.do(limits.put, payer.id, **terms)
