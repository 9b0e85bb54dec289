"""A credit note has a number of its own, says what it corrects and why, and never credits more than is left."""

import asyncio

import pytest
from sqlalchemy import Row, select

from core.errors import Conflict, Invalid, NotFound
from core.ids import new_id
from core.invoices import billing_profiles, credit_notes, invoices
from core.invoices.billing_profiles import Profile
from core.people import audit_trail
from core.people.audit_trail import Filter
from core.tables import Invoice, LedgerEntry
from tests.support.books import JANUARY, Books, books
from tests.support.past_use import CENT, DOLLAR

__all__ = ["books"]


async def invoice_of(books: Books, amount_nanos: int = 100 * DOLLAR, tax: int = 190_000) -> Row:
    async with books.tx() as tx:
        profile = Profile(tax_name="VAT", tax_parts_per_million=tax)
        await billing_profiles.put(tx, books.account.id, profile)
    await books.use(JANUARY, amount_nanos)
    row = await books.issue()
    assert row is not None
    return row


async def credit(books: Books, invoice: Row, nanos: int | None, reason: str = "Wrong", id: str | None = None) -> Row:
    async with books.tx() as tx:
        return await credit_notes.issue(
            tx, books.settings, invoice.id, id=id or new_id(), reason=reason, amount_nanos=nanos
        )


async def test_it_refers_to_its_invoice_and_copies_the_rest_of_it(books: Books) -> None:
    invoice = await invoice_of(books)
    note = await credit(books, invoice, 1190 * CENT, " Counted twice ")
    document = note.document
    assert document["corrects"] == {
        "id": invoice.id,
        "number": invoice.number,
        "issued_at": invoice.document["issued_at"],
    }
    assert document["lines"] == [{"kind": "credit", "reason": "Counted twice", "count": 1, "amount_nanos": 10 * DOLLAR}]
    assert (note.subtotal_nanos, note.tax_nanos, note.total_nanos) == (10 * DOLLAR, 190 * CENT, 1190 * CENT)
    assert all(document[name] == invoice.document[name] for name in ("buyer", "seller", "month", "locale"))
    year = note.issued_at.year
    assert note.number == f"{books.settings.credit_note_prefix}-{year}-000001"
    async with books.tx() as tx:
        assert [row.id for row in await invoices.credit_notes_of(tx, invoice.id)] == [note.id]


async def test_the_invoice_stays_as_it_was_and_no_money_moves(books: Books) -> None:
    invoice = await invoice_of(books)
    entries = select(LedgerEntry.id).where(LedgerEntry.ledger_account == f"account:{books.account.id}")
    async with books.tx() as tx:
        before = len(await tx.all(entries))
    await credit(books, invoice, None)
    async with books.tx() as tx:
        assert await invoices.get(tx, invoice.id, None) == invoice
        assert len(await tx.all(entries)) == before


async def test_no_more_is_credited_than_is_left(books: Books) -> None:
    invoice = await invoice_of(books)
    await credit(books, invoice, 100 * DOLLAR)
    with pytest.raises(Conflict, match=r"119\.000000000 dollars, 19\.000000000 are left"):
        await credit(books, invoice, 20 * DOLLAR)
    rest = await credit(books, invoice, None)
    assert rest.total_nanos == 19 * DOLLAR
    for amount in (None, CENT):
        with pytest.raises(Conflict, match=r"0\.000000000 are left"):
            await credit(books, invoice, amount)


async def test_of_many_at_once_no_more_get_through_than_there_is_for(books: Books) -> None:
    invoice = await invoice_of(books, tax=0)
    results = await asyncio.gather(*(credit(books, invoice, 30 * DOLLAR) for _ in range(6)), return_exceptions=True)
    notes = [result for result in results if not isinstance(result, Conflict)]
    assert len(notes) == 3
    assert {note.number[-6:] for note in notes} == {"000001", "000002", "000003"}


async def test_the_same_id_again_is_the_same_credit_note(books: Books) -> None:
    invoice, id = await invoice_of(books), new_id()
    first, again = await credit(books, invoice, DOLLAR, id=id), await credit(books, invoice, DOLLAR, id=id)
    assert first == again
    async with books.tx() as tx:
        assert len(await tx.all(select(Invoice.id).where(Invoice.corrects_id == invoice.id))) == 1


@pytest.mark.parametrize("nanos", [0, -CENT, CENT // 2, CENT + 1])
async def test_it_is_for_whole_cents_and_more_than_nothing(books: Books, nanos: int) -> None:
    invoice = await invoice_of(books)
    with pytest.raises(Invalid, match="whole cents"):
        await credit(books, invoice, nanos)


async def test_it_needs_a_reason_and_an_invoice(books: Books) -> None:
    invoice = await invoice_of(books)
    with pytest.raises(Invalid, match="Say why"):
        await credit(books, invoice, DOLLAR, " ")
    note = await credit(books, invoice, DOLLAR)
    with pytest.raises(Conflict, match="credit note itself"):
        await credit(books, note, DOLLAR)
    async with books.tx() as tx:
        with pytest.raises(NotFound):
            await credit_notes.issue(tx, books.settings, "nothing", id=new_id(), reason="Wrong")


async def test_what_came_to_nothing_cannot_be_credited(books: Books) -> None:
    invoice = await invoice_of(books, 0)
    with pytest.raises(Conflict):
        await credit(books, invoice, None)


async def test_it_is_on_record_with_its_reason(books: Books) -> None:
    invoice = await invoice_of(books)
    note = await credit(books, invoice, DOLLAR, "Counted twice")
    async with books.tx() as tx:
        [event] = await audit_trail.page(tx, Filter(books.account.id, "credit_note."), None, 10)
    assert event.after["number"] == note.number
    assert (event.after["corrects"], event.after["reason"]) == (invoice.number, "Counted twice")
