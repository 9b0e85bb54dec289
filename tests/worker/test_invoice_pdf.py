"""The PDF of an invoice says what its document says, looks the same whenever it is made, and writes every name."""

import io
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest
from pypdf import PdfReader

from core.invoices import invoices
from core.invoices.invoice_totals import totals
from core.invoices.localized import money
from core.money.pricing import NANOS_PER_DOLLAR
from core.resources import Resources
from tests.support.books import JANUARY, Books, books
from worker.invoices import making
from worker.invoices.pdf import render

__all__ = ["books"]

DOLLAR = NANOS_PER_DOLLAR
TRILLION = 10**12 * DOLLAR


def usage(model: str, amount_nanos: int = DOLLAR, **fields: Any) -> dict[str, Any]:
    return {
        "kind": "usage",
        "model": model,
        "hardware": "a-gpu",
        "hardware_name": "A GPU",
        "cause": "prediction",
        "phase": "active",
        "runs": 1234,
        "metric": "second",
        "quantity": "1234.5",
        "price_id": "p",
        "nanos_per_unit": 725_000,
        "amount_nanos": amount_nanos,
        **fields,
    }


def document(lines: list[dict[str, Any]], locale: str = "en_US", buyer: str = "Acme", **fields: Any) -> dict[str, Any]:
    sums = totals(sum(line["amount_nanos"] for line in lines), 190_000, 10**30, 0)
    seller = {"name": "Some Seller", "address": "1 Way\nTown", "email": "", "tax_id": "", "note": "Pay by transfer."}
    return {
        "kind": "invoice",
        "number": "INV-2024-000007",
        "issued_at": "2024-02-01T01:00:00.000001Z",
        "currency": "USD",
        "locale": locale,
        "timezone": "UTC",
        "month": "2024-01-01",
        "period_start": "2024-01-01T00:00:00.000000Z",
        "period_end": "2024-02-01T00:00:00.000000Z",
        "first_day": "2024-01-01",
        "last_day": "2024-01-31",
        "seller": seller,
        "buyer": {"username": "acme", "name": buyer, "address": "", "email": "", "tax_id": "T1"},
        "lines": lines,
        "tax_name": "VAT",
        "tax_parts_per_million": 190_000,
        **asdict(sums),
        **fields,
    }


def pages(content: bytes) -> list[str]:
    """The text of each, on one line, however its spaces are written."""
    return [" ".join(page.extract_text().split()) for page in PdfReader(io.BytesIO(content)).pages]


def plain(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("locale", "amount"),
    [
        ("en_US", 0),
        ("en_US", TRILLION),
        ("de_DE", 1234 * DOLLAR + 567_890_123),
        ("de_DE", TRILLION),
        ("fr_FR", 1),
        ("ja_JP", 1234 * DOLLAR + 567_890_123),
    ],
)
def test_number_and_amounts_can_be_read_from_it(locale: str, amount: int) -> None:
    written = document([usage("acme/model", amount)], locale)
    [text] = pages(render(written))
    assert "INV-2024-000007" in text
    assert "acme/model" in text
    for name in ("subtotal_nanos", "tax_nanos", "total_nanos", "due_nanos"):
        assert plain(money(written[name], locale)) in text


def test_amounts_of_lines_are_exact() -> None:
    [text] = pages(render(document([usage("a/b", 1234 * DOLLAR + 567_890_123), usage("a/c", DOLLAR)])))
    assert "1,234.567890123" in text
    assert "1.000000000" in text


@pytest.mark.parametrize(
    "name", ["Größe & Söhne", "Ελληνικά", "Кириллица", "株式会社サンプル", "한국 회사", "שלום", "شركة"]
)
def test_names_are_written_in_their_own_letters(name: str) -> None:
    content = render(document([usage("a/b")], buyer=name))
    assert not missing_letters(content, name)


def missing_letters(content: bytes, name: str) -> set[str]:
    """Shaped letters are read back in other forms, or another order: those that can be found count."""
    text = "".join(pages(content))
    arabic = {letter for letter in name if "\u0600" <= letter <= "\u06ff"}
    return {letter for letter in name if not letter.isspace() and letter not in text} - arabic


def test_a_locale_whose_months_cannot_be_written_has_english_ones() -> None:
    [text] = pages(render(document([usage("a/b")], "hi_IN")))
    assert "January 2024" in text


def test_a_long_month_goes_over_pages_that_repeat_the_head_and_are_counted() -> None:
    lines = [usage(f"acme/model-{number // 30}", number * DOLLAR) for number in range(60)]
    read = pages(render(document(lines)))
    assert len(read) >= 2
    for number, text in enumerate(read, 1):
        assert f"Page {number} of {len(read)}" in text
        # The last one may have nothing but the totals.
        assert ("Description" in text) == ("Amount, USD" in text) == ("A GPU" in text)
        assert "Some Seller · INV-2024-000007" in text
    assert all(f"acme/model-{number}" in " ".join(read) for number in range(2))
    assert "(continued)" in "".join(read)
    assert "Amount due" in read[-1]


def test_what_was_given_back_stands_with_its_reason() -> None:
    lines = [
        usage("a/b", 10 * DOLLAR),
        {"kind": "discount", "reason": "Volume price of a/b", "count": 2, "amount_nanos": -DOLLAR},
        {"kind": "waiver", "reason": "", "count": 1, "amount_nanos": -1},
    ]
    [text] = pages(render(document(lines)))
    assert "Volume price of a/b (2 times)" in text
    assert "-1.000000000" in text
    assert "-0.000000001" in text


def test_names_that_are_far_too_long_break_and_nothing_is_lost() -> None:
    buyer = "Very " * 90 + "long"
    read = " ".join(pages(render(document([usage("o/" + "m" * 300, hardware_name="gpu" * 60)], buyer=buyer))))
    assert read.count("Very") == 90
    assert read.replace(" ", "").count("m" * 300) == 1


def test_a_credit_note_names_what_it_corrects() -> None:
    credited = {
        "kind": "credit_note",
        "number": "CN-2024-000001",
        "corrects": {"id": "x", "number": "INV-2024-000007", "issued_at": "2024-02-01T00:00:00Z"},
    }
    lines = [{"kind": "credit", "reason": "Counted twice", "count": 1, "amount_nanos": DOLLAR}]
    [text] = pages(render(document(lines) | credited))
    assert text.startswith("Credit note")
    assert "INV-2024-000007" in text
    assert "Counted twice" in text
    assert "Amount due" not in text


def test_the_same_document_is_the_same_file_in_every_process(tmp_path: Path) -> None:
    written = document([usage("a/b"), usage("a/c")], "de_DE", "Größe שלום")
    source = "import sys, orjson; from worker.invoices.pdf import render; "
    source += "sys.stdout.buffer.write(render(orjson.loads(sys.stdin.buffer.read())))"
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", source]
    # Sets are in another order there: each process hashes text in its own way.
    answer = subprocess.run(command, cwd=root, input=orjson.dumps(written), capture_output=True, check=True)
    assert answer.stdout == render(written)


async def test_the_job_makes_every_invoice_and_its_pdf_and_again_makes_nothing(books: Books) -> None:
    await books.use(JANUARY)
    resources = Resources(books.settings, books.resources.database, books.resources.redis, books.resources.files)
    for _ in range(2):
        await making.make_all(resources, books.account.id)
    async with books.tx() as tx:
        [row] = await invoices.list_page(tx, books.account.id, 10)
    content = await resources.files.read(row.pdf)
    assert row.number in pages(content)[0]
    assert content == render(row.document)
