"""Tables of money: nothing is missing, nothing is twice, and what cost tools add up is what the ledger moved."""

import csv
import io
import tracemalloc
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, insert, select

from core import predictions
from core.clock import now
from core.ids import new_id
from core.lifecycle import PredictionStatus
from core.money import by_hand, credits, entries, folding, ledger, prices, refunds
from core.money.ledger import Kind
from core.money.pricing import NANOS_PER_DOLLAR, dollars
from core.predictions import Outcome
from core.tables import LedgerEntry, UsageRecord
from core.usage import exports, focus, usage_records
from core.usage.focus import Period
from tests.core.conftest import Scene
from tests.support.factories import PRICE_NANOS_PER_SECOND, add_account, add_prediction

SECOND = 1_000_000
MONEY = {"reason": "a test", "actor": "somebody"}


async def run_for(scene: Scene, micros: int, tags: dict[str, str] | None = None, **terms: Any) -> str:
    """The id of a prediction that has run so long."""
    waiting = await add_prediction(scene.resources.database, scene.account.id, scene.runnable, tags=tags, **terms)
    async with scene.resources.database.transaction() as tx:
        row = await predictions.start(tx, waiting.id, *scene.holder)
        await predictions.finish(tx, row.id, row.attempt, Outcome(PredictionStatus.SUCCEEDED, micros=micros))
    return waiting.id


async def fold(scene: Scene) -> None:
    async with scene.resources.database.transaction() as tx:
        await folding.fold(tx, scene.account.id)


async def focus_rows(scene: Scene, first: date, last: date) -> list[dict[str, Any]]:
    period = Period(first, last, "models.example.com", scene.account.id)
    return [row async for batch in focus.stream(scene.resources.database, period) for row in batch]


async def movement(scene: Scene) -> int:
    """What the Account's balance has moved by, but for payments."""
    own = select(func.coalesce(func.sum(LedgerEntry.amount_nanos), 0)).where(
        LedgerEntry.ledger_account == ledger.account(scene.account.id),
        LedgerEntry.kind.not_in([Kind.TOP_UP.value, Kind.ADJUSTMENT.value]),
    )
    async with scene.resources.database.autocommit() as tx:
        return int(await tx.scalar(own))


async def test_what_cost_tools_add_up_is_what_the_ledger_moved(scene: Scene) -> None:
    """Charges, waivers, discounts, refunds and credits; payments are no cost."""
    database, own = scene.resources.database, scene.account.id
    async with database.transaction() as tx:
        cheaper = {"nanos_per_unit": PRICE_NANOS_PER_SECOND, "free_units": 2, "created_by": "somebody"}
        await prices.put(tx, kind="hardware", subject=scene.runnable.hardware_sku, **cheaper)
        await credits.add(tx, own, kind=credits.PROMOTIONAL, amount_nanos=3 * NANOS_PER_DOLLAR, **MONEY)
        await credits.add(tx, own, kind=credits.PAID, amount_nanos=5 * NANOS_PER_DOLLAR, **MONEY)
        await by_hand.take(tx, own, id=new_id(), amount_nanos=NANOS_PER_DOLLAR, **MONEY)
    refunded = await run_for(scene, 5 * SECOND + 7, {"team": "vision"})
    await fold(scene)
    await run_for(scene, 3 * SECOND, {"team": "speech"}, hold_nanos=PRICE_NANOS_PER_SECOND)
    await run_for(scene, 1)
    async with database.transaction() as tx:
        usage = await refunds.usage_of(tx, refunded)
        await refunds.give(tx, usage, amount_nanos=1234, **MONEY)
    today = now().date()
    rows = await focus_rows(scene, today - timedelta(days=1), today + timedelta(days=1))
    kinds = {row["x_LedgerKind"] for row in rows}
    assert kinds == {"usage", "waiver", "discount", "refund", "promotion"}
    assert sum(row["BilledCost"] for row in rows) == -Decimal(dollars(await movement(scene)))
    refund = next(row for row in rows if row["x_LedgerKind"] == "refund")
    assert (refund["ChargeCategory"], refund["ChargeClass"], refund["BilledCost"]) == (
        "Usage",
        None,
        Decimal("-0.000001234"),
    )
    assert (refund["x_Model"], refund["Tags"]) == (scene.runnable.model, {"team": "vision"})
    by_category = {kind: next(row for row in rows if row["x_LedgerKind"] == kind)["ChargeCategory"] for kind in kinds}
    assert by_category == {
        "usage": "Usage",
        "refund": "Usage",
        "waiver": "Adjustment",
        "discount": "Adjustment",
        "promotion": "Credit",
    }


async def test_every_row_has_every_column_and_what_may_not_be_empty_is_not(scene: Scene) -> None:
    await run_for(scene, SECOND)
    async with scene.resources.database.transaction() as tx:
        await credits.add(tx, scene.account.id, kind=credits.PROMOTIONAL, amount_nanos=1, **MONEY)
    rows = await focus_rows(scene, now().date(), now().date())
    mandatory = [name for name in focus.COLUMNS if name.endswith(("Cost", "Start", "End"))]
    mandatory += ["BillingAccountId", "BillingCurrency", "ChargeCategory", "ServiceCategory", "ServiceName"]
    mandatory += ["InvoiceIssuerName", "ProviderName", "PublisherName", "ChargeDescription", "BillingAccountName"]
    assert len(rows) == 2
    for row in rows:
        assert set(row) == set(focus.COLUMNS)
        assert all(row[name] is not None for name in mandatory)
        assert row["ChargeCategory"] in ("Usage", "Purchase", "Tax", "Credit", "Adjustment")
    used = next(row for row in rows if row["ChargeCategory"] == "Usage")
    assert used["ContractedCost"] == used["ContractedUnitPrice"] * used["PricingQuantity"]
    assert used["ListCost"] == used["ListUnitPrice"] * used["PricingQuantity"]


async def test_what_a_model_makes_is_told_in_its_own_units(scene: Scene) -> None:
    async with scene.resources.database.transaction() as tx:
        price = await prices.put(
            tx,
            kind="model",
            subject=scene.runnable.model,
            metric="image_count",
            nanos_per_unit=10_000_000,
            created_by="somebody",
        )
    waiting = await add_prediction(scene.resources.database, scene.account.id, scene.runnable)
    line = {"metric": "image_count", "quantity": 3, "price_id": price.id}
    line |= {"nanos_per_unit": 10_000_000, "amount_nanos": 30_000_000}
    async with scene.resources.database.transaction() as tx:
        row = await predictions.start(tx, waiting.id, *scene.holder)
        outcome = Outcome(PredictionStatus.SUCCEEDED, micros=SECOND, units=[line])
        await predictions.finish(tx, row.id, row.attempt, outcome)
    [row] = await focus_rows(scene, now().date(), now().date())
    assert (row["PricingUnit"], row["PricingQuantity"], row["BilledCost"]) == ("image_count", 3, Decimal("0.03"))
    assert (row["SkuId"], row["SkuPriceId"]) == (f"{scene.runnable.model}:image_count", price.id)


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
async def test_a_stream_holds_every_row_once_however_it_is_cut(scene: Scene, batch: int) -> None:
    for micros in (1, 2, 3):
        await run_for(scene, micros * SECOND)
    wanted = usage_records.Filter(now() - timedelta(hours=1), now() + timedelta(hours=1), scene.account.id)
    streamed = usage_records.stream(scene.resources.database, wanted, batch)
    assert [row.micros async for rows in streamed for row in rows] == [SECOND, 2 * SECOND, 3 * SECOND]
    moved = entries.stream(scene.resources.database, entries.Filter(scene.account.id), batch)
    amounts = [row.amount_nanos async for rows in moved for row in rows]
    assert amounts == [-PRICE_NANOS_PER_SECOND * seconds for seconds in (1, 2, 3)]


async def test_an_export_of_many_records_needs_no_more_memory_than_one_of_few(scene: Scene) -> None:
    """Batches are let go of once they are written."""
    count, batch = 6000, 500
    async with scene.resources.database.transaction() as tx:
        owner = (await add_account(tx)).id
        common = {"cause_kind": "prediction", "account_id": owner, "model": "a/b", "version_id": "v"}
        common |= {"hardware_sku": "cpu", "price_nanos_per_second": 1, "amount_nanos": 1, "micros": SECOND}
        moment = now()
        common |= {"day": moment.date(), "ended_at": moment}
        rows = [{"id": f"{owner}:{number:05}", "cause_id": f"{owner}:{number}", **common} for number in range(count)]
        await tx.execute(insert(UsageRecord), rows)
    wanted = usage_records.Filter(moment - timedelta(hours=1), moment + timedelta(hours=1), owner)
    seen, peaks = 0, []
    tracemalloc.start()
    try:
        async for found in usage_records.stream(scene.resources.database, wanted, batch):
            text = exports.lines(exports.USAGE_COLUMNS, map(exports.usage_row, found))
            seen += len(list(csv.reader(io.StringIO(text))))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.reset_peak()
    finally:
        tracemalloc.stop()
    assert seen == count
    assert max(peaks[1:]) < 2 * peaks[0]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-x", "'-x"),
        (Decimal("-0.5"), "-0.5"),
        (Decimal("1E-9"), "0.000000001"),
        ({"b": 1, "a": "é"}, '"{""a"":""é"",""b"":1}"'),
        ("a,b\nc", '"a,b\nc"'),
    ],
)
def test_a_cell_is_never_a_formula(value: Any, written: str) -> None:
    assert exports.lines(["x"], [{"x": value}]) == f"{written}\r\n"


def test_nothing_is_an_empty_cell() -> None:
    assert exports.lines(["x", "y"], [{"x": None, "y": 1}]) == ",1\r\n"


def test_amounts_and_seconds_are_exact() -> None:
    assert str(exports.amount(-(10**18) - 1)) == "-1000000000.000000001"
    assert str(exports.seconds(10**15 + 1)) == "1000000000.000001"
