"""A month is invoiced once, under a number without gaps before it, for exactly what the ledger moved in it."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Row, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from core.clock import now
from core.errors import Invalid
from core.ids import new_id
from core.invoices import billing_profiles, invoices, invoicing
from core.invoices.billing_profiles import Profile
from core.money.ledger import Kind
from core.people import audit_trail
from core.people.audit_trail import Filter
from core.tables import Account, Hardware, Instance, InstanceTime, Invoice
from tests.support.books import FEBRUARY, JANUARY, Books, books
from tests.support.factories import add_account, add_instance, add_node, add_runnable
from tests.support.past_use import CENT, DOLLAR, use

KOLKATA, NEW_YORK = "Asia/Kolkata", "America/New_York"

__all__ = ["books"]


def exact(row: Row) -> int:
    return row.document["exact_nanos"]


# --- which month ------------------------------------------------------------------------------------------------------


async def test_what_ended_at_the_first_moment_of_a_month_is_in_it_and_at_the_last_as_well(books: Books) -> None:
    first, end = datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)
    for moment in (first - timedelta(microseconds=1), first, end - timedelta(microseconds=1), end):
        await books.use(moment)
    january, february, march = await books.all()
    assert [exact(row) for row in (january, february, march)] == [DOLLAR, 2 * DOLLAR, DOLLAR]
    assert (february.month, february.period_start, february.period_end) == (date(2024, 2, 1), first, end)
    assert (february.document["first_day"], february.document["last_day"]) == ("2024-02-01", "2024-02-29")


@pytest.mark.parametrize(
    ("timezone", "first", "end"),
    [
        (KOLKATA, datetime(2024, 2, 29, 18, 30, tzinfo=UTC), datetime(2024, 3, 31, 18, 30, tzinfo=UTC)),
        # The clock is put forward on 10 March: the month is an hour short.
        (NEW_YORK, datetime(2024, 3, 1, 5, tzinfo=UTC), datetime(2024, 4, 1, 4, tzinfo=UTC)),
        ("Pacific/Kiritimati", datetime(2024, 2, 29, 10, tzinfo=UTC), datetime(2024, 3, 31, 10, tzinfo=UTC)),
    ],
)
async def test_a_month_begins_and_ends_where_the_account_lives(
    books: Books, timezone: str, first: datetime, end: datetime
) -> None:
    await books.live_in(timezone)
    for moment in (first - timedelta(microseconds=1), first, end - timedelta(microseconds=1), end):
        await books.use(moment)
    february, march, april = await books.all()
    assert (march.month, march.period_start, march.period_end, exact(march)) == (
        date(2024, 3, 1),
        first,
        end,
        2 * DOLLAR,
    )
    assert (exact(february), exact(april)) == (DOLLAR, DOLLAR)


@pytest.mark.parametrize(("before", "after"), [("UTC", KOLKATA), (KOLKATA, "UTC"), (KOLKATA, NEW_YORK)])
async def test_whoever_moves_to_another_time_zone_is_billed_for_every_hour_once(
    books: Books, before: str, after: str
) -> None:
    hours = [datetime(2024, 1, 31, 12, tzinfo=UTC) + timedelta(hours=number) for number in range(24)]
    await books.live_in(before)
    async with books.tx() as tx:
        for moment in hours:
            await use(tx, books.account, moment, is_folded=moment == hours[-1])
    january = await books.issue()
    await books.live_in(after)
    february = await books.issue()
    assert exact(january) + exact(february) == len(hours) * DOLLAR
    assert (january.period_end, february.month) == (february.period_start, date(2024, 2, 1))


async def test_months_without_use_have_no_invoice_and_what_was_given_back_in_them_waits_for_the_next(
    books: Books,
) -> None:
    await books.use(JANUARY, 5 * DOLLAR)
    await books.give_back(FEBRUARY, 2 * DOLLAR)
    await books.use(datetime(2024, 4, 2, tzinfo=UTC), 3 * DOLLAR)
    january, april = await books.all()
    assert (january.month, exact(january)) == (date(2024, 1, 1), 5 * DOLLAR)
    assert (april.month, exact(april)) == (date(2024, 4, 1), DOLLAR)


async def test_who_used_nothing_gets_no_invoice(books: Books) -> None:
    await books.give_back(JANUARY, DOLLAR)
    # Time of Instances whose callers pay is not its owner's to pay.
    await books.use(JANUARY, 0, cause_kind="instance", phase="idle", price_nanos_per_second=0)
    assert await books.issue() is None


async def test_a_month_is_left_alone_until_an_hour_after_its_end(books: Books) -> None:
    """A month that ends at this very moment somewhere cannot be had, so one is taken that began in the present one."""
    await books.use(now() - timedelta(seconds=1))
    assert await books.issue() is None
    async with books.tx() as tx:
        assert books.account.id not in await invoicing.due(tx)


async def test_a_month_waits_until_it_is_added_up(books: Books) -> None:
    await books.use(JANUARY)
    await books.use(JANUARY, is_folded=False)
    assert await books.issue() is None
    await books.use(FEBRUARY)
    assert exact(await books.issue()) == 2 * DOLLAR


async def test_a_month_waits_until_the_time_of_instances_is_metered(books: Books) -> None:
    await books.use(JANUARY)
    async with books.tx() as tx:
        instance_id = await add_instance(tx, await add_node(tx), await add_runnable(tx))
        own = update(Instance).where(Instance.id == instance_id)
        await tx.execute(own.values(owner_id=books.account.id, bills_time=True))
        time = {
            "hour": JANUARY,
            "phase": "idle",
            "price_id": "x",
            "price_nanos_per_second": 1,
            "micros": 1,
            "from_micros": 0,
        }
        await tx.execute(insert(InstanceTime).values(instance_id=instance_id, ended_at=JANUARY, **time))
    assert await books.issue() is None
    async with books.tx() as tx:
        await tx.execute(InstanceTime.__table__.delete().where(InstanceTime.instance_id == instance_id))
    assert await books.issue() is not None


async def test_an_account_with_a_month_to_invoice_is_found_until_it_has_its_invoice(books: Books) -> None:
    async with books.tx() as tx:
        assert books.account.id not in await invoicing.due(tx)
    await books.use(JANUARY)
    async with books.tx() as tx:
        assert books.account.id in await invoicing.due(tx)
    await books.issue()
    async with books.tx() as tx:
        assert books.account.id not in await invoicing.due(tx)


async def test_without_a_seller_there_are_no_invoices(books: Books) -> None:
    await books.use(JANUARY)
    nobody = Books(books.resources, books.settings.model_copy(update={"seller_name": " "}), books.account)
    assert await nobody.issue() is None


# --- what stands on it ------------------------------------------------------------------------------------------------


async def test_lines_are_by_model_hardware_phase_and_price(books: Books) -> None:
    await books.use(JANUARY, 3 * DOLLAR, micros=1_500_000)
    await books.use(JANUARY, DOLLAR, micros=500_000)
    later = {"price_id": "another price", "price_nanos_per_second": 2_000_000}
    await books.use(JANUARY + timedelta(days=1), 5 * DOLLAR, **later)
    await books.use(JANUARY, 7 * DOLLAR, cause_kind="instance", phase="idle")
    await books.use(JANUARY, 9 * DOLLAR, hardware_sku="b-gpu", model="acme/other")
    async with books.tx() as tx:
        await tx.execute(insert(Hardware).values(sku=f"b-{new_id()}", name="Not used"))
    lines = (await books.issue()).document["lines"]
    shown = [(line["model"], line["cause"], line["price_id"], line["runs"], line["quantity"]) for line in lines]
    assert shown == [
        ("acme/model", "instance", "a price", 0, "1"),
        ("acme/model", "prediction", "a price", 2, "2"),
        ("acme/model", "prediction", "another price", 1, "1"),
        ("acme/other", "prediction", "a price", 1, "1"),
    ]
    assert [line["amount_nanos"] // DOLLAR for line in lines] == [7, 4, 5, 9]
    assert {line["metric"] for line in lines} == {"second"}


async def test_what_is_priced_by_units_has_a_line_for_each_metric_and_price(books: Books) -> None:
    def unit(metric: str, quantity: float, price: str, nanos: int) -> dict[str, Any]:
        amount = int(quantity * 1000) * nanos // 1000
        values = {"metric": metric, "quantity": quantity, "price_id": price, "nanos_per_unit": nanos}
        return {**values, "amount_nanos": amount}

    for units in (
        [unit("images", 3, "p1", CENT), unit("video_seconds", 2.125, "p2", CENT)],
        [unit("images", 4, "p1", CENT), unit("video_seconds", 0.5, "p2", CENT)],
        [unit("images", 10, "p3", CENT // 2)],
    ):
        await books.use(JANUARY, sum(each["amount_nanos"] for each in units), units=units)
    row = await books.issue()
    lines = [(line["metric"], line["price_id"], line["quantity"], line["runs"]) for line in row.document["lines"]]
    assert lines == [("images", "p1", "7", 2), ("images", "p3", "10", 1), ("video_seconds", "p2", "2.625", 2)]
    assert exact(row) == 7 * CENT + 5 * CENT + 26_250_000


async def test_discounts_refunds_and_waivers_are_lines_by_their_reason(books: Books) -> None:
    await books.use(JANUARY, 10 * DOLLAR, waived_nanos=DOLLAR)
    await books.give_back(JANUARY, CENT, Kind.DISCOUNT, "Volume price")
    await books.give_back(JANUARY, CENT, Kind.DISCOUNT, "Volume price")
    await books.give_back(JANUARY, 3 * CENT, Kind.REFUND, "It was late")
    row = await books.issue()
    given = [(line["kind"], line["reason"], line["count"], line["amount_nanos"]) for line in row.document["lines"][1:]]
    assert given == [
        ("discount", "Volume price", 2, -2 * CENT),
        ("refund", "It was late", 1, -3 * CENT),
        ("waiver", "", 1, -DOLLAR),
    ]
    assert row.total_nanos == 9 * DOLLAR - 5 * CENT


async def test_tax_is_of_the_rounded_sum_and_stands_under_its_name(books: Books) -> None:
    await books.live_in("UTC", tax_name="VAT", tax_parts_per_million=190_000)
    await books.use(JANUARY, 10 * DOLLAR + 4_999_999)
    row = await books.issue()
    assert (row.subtotal_nanos, row.tax_nanos, row.total_nanos) == (10 * DOLLAR, 190 * CENT, 1190 * CENT)
    assert row.document["tax_name"] == "VAT"


async def test_what_the_wallet_had_is_paid_and_the_rest_is_due(books: Books) -> None:
    await books.pay(JANUARY - timedelta(days=40), 4 * DOLLAR)
    await books.use(JANUARY, 10 * DOLLAR)
    await books.pay(FEBRUARY, 100 * DOLLAR)
    await books.use(FEBRUARY, 3 * DOLLAR)
    january, february = await books.all()
    amounts = [(row.document["paid_nanos"], row.document["due_nanos"]) for row in (january, february)]
    assert amounts == [(4 * DOLLAR, 6 * DOLLAR), (3 * DOLLAR, 0)]


async def test_what_is_owed_from_before_is_not_due_again(books: Books) -> None:
    await books.use(JANUARY, 10 * DOLLAR)
    await books.use(FEBRUARY, 3 * DOLLAR)
    assert [row.document["due_nanos"] for row in await books.all()] == [10 * DOLLAR, 3 * DOLLAR]


async def test_where_more_was_given_back_than_used_the_total_is_below_zero_and_nothing_is_due(books: Books) -> None:
    await books.use(JANUARY, DOLLAR)
    await books.give_back(JANUARY, 3 * DOLLAR)
    row = await books.issue()
    assert (row.total_nanos, row.document["due_nanos"], row.document["paid_nanos"]) == (-2 * DOLLAR, 0, 0)


async def test_a_month_of_nothing_but_free_runs_has_an_invoice_of_zero(books: Books) -> None:
    await books.use(JANUARY, 0, price_nanos_per_second=0)
    row = await books.issue()
    assert (row.total_nanos, row.document["due_nanos"], len(row.document["lines"])) == (0, 0, 1)


async def test_what_is_deleted_is_invoiced_under_the_name_it_had(books: Books) -> None:
    await books.use(JANUARY, model="gone/model", hardware_sku="gone-gpu")
    async with books.tx() as tx:
        await tx.execute(update(Account).where(Account.id == books.account.id).values(deleted_at=func.now()))
        assert books.account.id in await invoicing.due(tx)
    document = (await books.issue()).document
    assert document["buyer"]["username"] == books.account.username
    [line] = document["lines"]
    assert (line["model"], line["hardware_name"]) == ("gone/model", "gone-gpu")


async def test_a_document_copies_what_it_names(books: Books) -> None:
    await books.live_in("UTC", name="Acme", address="1 Way\nTown", locale="de_DE")
    await books.use(JANUARY)
    first = await books.issue()
    await books.live_in("UTC", name="Other")
    async with books.tx() as tx:
        again = await invoices.get(tx, first.id, books.account.id)
    assert again.document == first.document
    assert (again.document["buyer"]["name"], again.document["locale"]) == ("Acme", "de_DE")


# --- once, and without gaps -------------------------------------------------------------------------------------------


async def test_a_month_has_one_invoice_whoever_asks_and_how_often(books: Books) -> None:
    await books.use(JANUARY)
    at_once = await asyncio.gather(*(books.issue() for _ in range(5)))
    assert len([row for row in at_once if row is not None]) == 1
    assert await books.issue() is None
    async with books.tx() as tx:
        [row] = await tx.all(select(Invoice).where(Invoice.account_id == books.account.id))
    with pytest.raises(IntegrityError):
        async with books.tx() as tx:
            await tx.execute(insert(Invoice).values(row._asdict() | {"id": "another", "number": "another"}))


class Crash(Exception):
    """A process dies just before its commit."""


async def crash_at_the_end(books: Books, account: Row) -> None:
    async with books.tx() as tx:
        assert await invoicing.issue_next(tx, books.settings, account.id) is not None
        raise Crash


async def test_numbers_have_no_gaps_though_issuers_crash_side_by_side(books: Books) -> None:
    async with books.tx() as tx:
        accounts = [await add_account(tx) for _ in range(20)]
        for account in accounts:
            await use(tx, account, JANUARY)

    async def issue(account: Row, crashes: int) -> Row:
        for _ in range(crashes):
            with pytest.raises(Crash):
                await crash_at_the_end(books, account)
        row = await books.issue(account.id)
        assert row is not None
        return row

    rows = await asyncio.gather(*(issue(account, number % 3) for number, account in enumerate(accounts)))
    rows = sorted(rows, key=lambda row: row.number)
    series = f"{books.settings.invoice_prefix}-{rows[0].issued_at.year}"
    assert [row.number for row in rows] == [f"{series}-{number:06d}" for number in range(1, 21)]
    assert all(before.issued_at < after.issued_at for before, after in pairwise(rows))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE invoices SET total_nanos = 0 WHERE id = :id",
        "UPDATE invoices SET document = '{}' WHERE id = :id",
        "UPDATE invoices SET status = 'draft' WHERE id = :id",
        "DELETE FROM invoices WHERE id = :id",
    ],
)
async def test_what_is_issued_is_frozen(books: Books, change: str) -> None:
    await books.use(JANUARY)
    row = await books.issue()
    with pytest.raises(DBAPIError, match="is issued: write a credit note"):
        async with books.tx() as tx:
            await tx.execute(text(change).bindparams(id=row.id))
    async with books.tx() as tx:
        await invoices.rendered(tx, row.id, "somewhere")


async def test_who_issued_what_is_on_record(books: Books) -> None:
    await books.use(JANUARY)
    row = await books.issue()
    async with books.tx() as tx:
        [event] = await audit_trail.page(tx, Filter(books.account.id, "invoice."), None, 10)
    assert (event.action, event.after["number"], event.after["month"]) == ("invoice.issue", row.number, "2024-01")


# --- profiles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"locale": "xx_YY"}, "locale"),
        ({"locale": "../etc"}, "locale"),
        ({"timezone": "Mars/Base"}, "time zone"),
        ({"timezone": "../UTC"}, "time zone"),
        ({"timezone": ""}, "time zone"),
        ({"tax_name": "VAT", "tax_parts_per_million": 1_000_001}, "parts per million"),
        ({"tax_name": "VAT", "tax_parts_per_million": -1}, "parts per million"),
        ({"tax_parts_per_million": 190_000}, "needs a name"),
        ({"name": "x" * 501}, "at most 500"),
    ],
)
async def test_what_is_no_profile_is_refused(books: Books, fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        async with books.tx() as tx:
            await billing_profiles.put(tx, books.account.id, Profile(**fields))


async def test_a_change_of_profile_is_on_record_with_what_it_was(books: Books) -> None:
    await books.live_in(KOLKATA, locale="de-DE")
    async with books.tx() as tx:
        assert (await billing_profiles.get(tx, books.account.id)).locale == "de_DE"
        [event] = await audit_trail.page(tx, Filter(books.account.id, "billing_profile."), None, 10)
    assert (event.before, event.after) == (
        {"locale": "en_US", "timezone": "UTC"},
        {"locale": "de_DE", "timezone": KOLKATA},
    )
