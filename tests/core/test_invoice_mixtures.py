"""Any mixture of use and of what is given back: every month's invoice is what the ledger moved, and nothing is in two
or in none."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given
from hypothesis import settings as bounds
from hypothesis import strategies as st
from sqlalchemy import func, select

from core.ids import new_id
from core.invoices import billing_profiles, invoices, invoicing
from core.invoices.billing_profiles import Profile
from core.invoices.invoice_totals import to_cents
from core.money import folding, ledger
from core.money.ledger import Kind
from core.resources import Resources, open_resources
from core.settings import Settings
from core.tables import LedgerEntry
from tests.support.factories import add_account
from tests.support.past_use import DOLLAR, give_back, use

_FIRST = datetime(2024, 1, 20, tzinfo=UTC)
_DAYS = 100
MOMENTS = st.one_of(
    st.timedeltas(timedelta(0), timedelta(days=_DAYS)),
    # The ends of months in UTC, India and New York, where the clock is changed in March.
    st.sampled_from([datetime(2024, 2, 1), datetime(2024, 2, 29, 18, 30), datetime(2024, 4, 1, 4)]).map(  # noqa: DTZ001
        lambda moment: moment.replace(tzinfo=UTC) - _FIRST
    ),
)
ZONES = st.sampled_from(["UTC", "Asia/Kolkata", "America/New_York"])
#: What a record may hold, and what is a cent's worth of it.
AMOUNTS = st.one_of(st.integers(0, 3 * DOLLAR), st.integers(0, 10**6 * DOLLAR), st.just(0))


@dataclass(frozen=True)
class Used:
    after: timedelta
    amount_nanos: int
    waived_share: int
    model: str
    price_id: str
    is_by_unit: bool


@dataclass(frozen=True)
class Given:
    after: timedelta
    amount_nanos: int
    kind: Kind


USED = st.builds(
    Used,
    MOMENTS,
    AMOUNTS,
    st.sampled_from([0, 0, 1, 3]),
    st.sampled_from(["a/one", "b/two"]),
    st.sampled_from(["p1", "p2"]),
    st.booleans(),
)
GIVEN = st.builds(Given, MOMENTS, st.integers(1, DOLLAR), st.sampled_from([Kind.REFUND, Kind.DISCOUNT]))


@bounds(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(USED, max_size=12), st.lists(GIVEN, max_size=4), ZONES, ZONES)
def test_invoices_are_what_the_ledger_moved(
    settings: Settings, used: list[Used], given_back: list[Given], zone: str, later_zone: str
) -> None:
    asyncio.run(_play(settings, used, given_back, zone, later_zone))


async def _play(settings: Settings, used: list[Used], given_back: list[Given], zone: str, later_zone: str) -> None:
    seller = settings.model_copy(update={"seller_name": "A seller", "invoice_prefix": f"M{new_id()[-12:].upper()}"})
    async with open_resources(settings) as resources:
        async with resources.database.transaction() as tx:
            account = await add_account(tx)
            await billing_profiles.put(tx, account.id, Profile(timezone=zone))
            for one in used:
                await _use(tx, account, one)
            await folding.fold(tx, account.id)
            for back in given_back:
                await give_back(tx, account, _FIRST + back.after, back.amount_nanos, back.kind)
        rows = []
        while (row := await _issue(resources, seller, account.id)) is not None:
            rows.append(row)
            async with resources.database.transaction() as tx:
                await billing_profiles.put(tx, account.id, Profile(timezone=later_zone))
        last_end = rows[-1].period_end if rows else _FIRST
        async with resources.database.autocommit() as tx:
            moved = await tx.scalar(
                select(func.coalesce(func.sum(LedgerEntry.amount_nanos), 0)).where(
                    LedgerEntry.ledger_account == ledger.account(account.id), LedgerEntry.created_at < last_end
                )
            )
    assert sum(row.document["exact_nanos"] for row in rows) == -int(moved)
    assert all(_FIRST + one.after < last_end for one in used), "use that is on no invoice"
    for row in rows:
        document = row.document
        assert document["exact_nanos"] == sum(line["amount_nanos"] for line in document["lines"])
        assert row.subtotal_nanos == to_cents(document["exact_nanos"])
        assert sum(line["runs"] for line in document["lines"] if line["kind"] == Kind.USAGE) == sum(
            row.period_start <= _FIRST + one.after < row.period_end for one in used
        )
        assert _sum_of_csv(invoices.csv_text(document)) == row.total_nanos


async def _use(tx, account, one: Used) -> None:
    unit = {"metric": "images", "quantity": 1, "price_id": one.price_id, "nanos_per_unit": one.amount_nanos}
    await use(
        tx,
        account,
        _FIRST + one.after,
        one.amount_nanos,
        waived_nanos=one.amount_nanos * one.waived_share // 3,
        model=one.model,
        price_id=one.price_id,
        is_folded=False,
        units=[{**unit, "amount_nanos": one.amount_nanos}] if one.is_by_unit else None,
    )


async def _issue(resources: Resources, settings: Settings, account_id: str):
    async with resources.database.transaction() as tx:
        return await invoicing.issue_next(tx, settings, account_id)


def _sum_of_csv(text: str) -> int:
    amounts = [line.rsplit(",", 1)[1] for line in text.strip().split("\r\n")[1:]]
    return sum(int(amount.replace(".", "")) for amount in amounts)
