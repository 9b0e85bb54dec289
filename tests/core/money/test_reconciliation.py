"""The books agree after whatever the platform did, and each thing that does not is named."""

import pytest
from sqlalchemy import text

from core import predictions
from core.database import Transaction
from core.lifecycle import PredictionStatus
from core.money import credits, folding, refunds, wallets
from core.money.pricing import MICROS_PER_SECOND, NANOS_PER_DOLLAR
from core.money.reconciliation import Difference, broken, differences
from core.predictions import Outcome
from core.resources import Resources
from tests.core.conftest import Scene
from tests.support.factories import add_prediction

# All rows are looked at, and other tests write some that no platform would.
pytestmark = pytest.mark.usefixtures("clean_database")


async def reconcile(resources: Resources) -> list[Difference]:
    async with resources.database.transaction() as tx:
        return await differences(tx)


async def run_for(scene: Scene, seconds: float, hold: int | None = None) -> str:
    waiting = await add_prediction(scene.resources.database, scene.account.id, scene.runnable, hold_nanos=hold)
    async with scene.resources.database.transaction() as tx:
        row = await predictions.start(tx, waiting.id, *scene.holder)
        outcome = Outcome(PredictionStatus.SUCCEEDED, micros=int(seconds * MICROS_PER_SECOND))
        await predictions.finish(tx, row.id, row.attempt, outcome)
    return waiting.id


async def do_business(scene: Scene) -> str:
    """A prediction that was charged, in part beyond its hold, and something of every kind around it."""
    database, account_id = scene.resources.database, scene.account.id
    async with database.transaction() as tx:
        await wallets.set_terms(tx, account_id, credit_limit_nanos=0)
        money = {"amount_nanos": NANOS_PER_DOLLAR, "reason": "test", "actor": "test"}
        await credits.add(tx, account_id, kind="paid", **money)
        await credits.add(tx, account_id, kind="promotional", **money)
    charged = await run_for(scene, 12.5, hold=NANOS_PER_DOLLAR // 100)
    waived = await run_for(scene, 12.5, hold=1)
    await add_prediction(database, account_id, scene.runnable, hold_nanos=7)
    async with database.transaction() as tx:
        await folding.fold(tx)
        await credits.adjust(tx, account_id, amount_nanos=3, reason="test", actor="test")
        await refunds.give(tx, await refunds.usage_of(tx, charged), reason="test", actor="test", amount_nanos=5)
    assert charged != waived
    return charged


async def test_the_books_agree_after_business_folded_or_not(scene: Scene) -> None:
    await do_business(scene)
    assert await reconcile(scene.resources) == []
    await run_for(scene, 1.5)
    assert await reconcile(scene.resources) == []


#: What is changed behind the platform's back, and the promises that it breaks.
TAMPERING: dict[str, tuple[str, set[str]]] = {
    "a wallet": (
        "UPDATE wallets SET balance_nanos = balance_nanos + 1 WHERE account_id = :account",
        {"balances", "credits"},
    ),
    "a hold": ("UPDATE wallets SET held_nanos = held_nanos + 1 WHERE account_id = :account", {"holds"}),
    "a credit": (
        "UPDATE credits SET remaining_nanos = remaining_nanos - 1 WHERE account_id = :account AND kind = 'paid'",
        {"credits", "burns"},
    ),
    "a lost posting": (
        "UPDATE usage_days SET amount_nanos = amount_nanos + 1 WHERE account_id = :account",
        {"days", "hours"},
    ),
    "a measured time": ("UPDATE predictions SET micros = micros + 1 WHERE id = :prediction", {"predictions"}),
    "one side of a charge": (
        "DELETE FROM ledger_entries WHERE id = 'prediction\\:' || :prediction || '\\:debit'",
        {"transactions", "charges", "balances"},
    ),
    "an amount": (
        "UPDATE usage_records SET amount_nanos = amount_nanos + 1 WHERE cause_id = :prediction",
        {"charges", "prices", "days"},
    ),
    "a refund": (
        "UPDATE ledger_entries SET amount_nanos = amount_nanos * 10^9 WHERE corrects = 'prediction\\:' || :prediction",
        {"refunds", "balances"},
    ),
}


@pytest.mark.parametrize("what", TAMPERING)
async def test_what_somebody_changed_is_named(scene: Scene, what: str) -> None:
    prediction = await do_business(scene)
    statement, promises = TAMPERING[what]
    values = {"account": scene.account.id, "prediction": prediction}
    # Nothing of it is committed.
    async with scene.resources.database.engine.connect() as connection:
        tx = Transaction(connection)
        await tx.execute(text("SET LOCAL session_replication_role = replica"))
        changing = text(statement)
        await tx.execute(changing.bindparams(**{name: values[name] for name in changing._bindparams}))
        assert {found.check.name for found in await broken(tx)} == promises
