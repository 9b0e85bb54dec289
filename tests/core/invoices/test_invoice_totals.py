"""Amounts are rounded once, to the cent and to even, and whatever is paid and due makes up the total."""

import pytest
from hypothesis import given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from core.invoices.invoice_totals import NANOS_PER_CENT, credit, tax_nanos, to_cents, totals
from core.money.pricing import NANOS_PER_DOLLAR

CENT = NANOS_PER_CENT
#: A trillion dollars.
MOST = 10**12 * NANOS_PER_DOLLAR
nanos = st.integers(-MOST, MOST)
parts = st.integers(0, 1_000_000)


@pytest.mark.parametrize(
    ("exact", "rounded"),
    [
        (0, 0),
        (CENT // 2, 0),
        (CENT // 2 + 1, CENT),
        (CENT + CENT // 2, 2 * CENT),
        (-CENT // 2, 0),
        (MOST + CENT // 2 - 1, MOST),
    ],
)
def test_half_a_cent_goes_to_the_even_one(exact: int, rounded: int) -> None:
    assert to_cents(exact) == rounded


@pytest.mark.parametrize(
    ("taxable", "rate", "tax"),
    [
        (100 * CENT, 77_500, 8 * CENT),
        (10 * CENT, 50_000, 0),
        (30 * CENT, 50_000, 2 * CENT),
        (100 * CENT, 1_000_000, 100 * CENT),
        (MOST, 190_000, MOST * 19 // 100),
        (-100 * CENT, 190_000, -19 * CENT),
        (0, 190_000, 0),
    ],
)
def test_tax_is_rounded_the_same_way(taxable: int, rate: int, tax: int) -> None:
    assert tax_nanos(taxable, rate) == tax


@bounds(max_examples=300, deadline=None)
@given(nanos, parts, nanos, nanos)
def test_every_total_is_whole_cents_and_no_cent_is_lost(exact: int, rate: int, owed: int, given: int) -> None:
    sums = totals(exact, rate, owed, given)
    rounded = (sums.subtotal_nanos, sums.tax_nanos, sums.paid_nanos, sums.promotional_nanos, sums.due_nanos)
    assert not any(amount % CENT for amount in rounded)
    assert abs(sums.subtotal_nanos - exact) <= CENT // 2
    assert sums.total_nanos == sums.subtotal_nanos + sums.tax_nanos
    assert min(sums.paid_nanos, sums.promotional_nanos, sums.due_nanos) >= 0
    if sums.subtotal_nanos >= 0:
        assert sums.paid_nanos + sums.promotional_nanos + sums.due_nanos == sums.total_nanos
    else:
        assert sums.due_nanos == 0


@bounds(max_examples=100, deadline=None)
@given(st.integers(0, MOST), nanos)
def test_of_a_wallet_that_covers_it_all_nothing_but_tax_is_due(exact: int, given: int) -> None:
    sums = totals(exact, 190_000, 0, given)
    assert sums.due_nanos == sums.tax_nanos
    assert totals(exact, 0, 0, given).due_nanos == 0


@bounds(max_examples=200, deadline=None)
@given(st.integers(1, 10**6), parts, st.lists(st.integers(1, 10**6), max_size=8))
def test_credits_of_an_invoice_use_up_its_sum_and_its_tax_together(cents: int, rate: int, pieces: list[int]) -> None:
    subtotal = cents * CENT
    tax = tax_nanos(subtotal, rate)
    left, left_tax = subtotal + tax, tax
    for piece in [*(piece * CENT for piece in pieces), subtotal + tax]:
        amount = min(piece, left)
        if not amount:
            break
        without, of_tax = credit(amount, left, left_tax, rate)
        assert without + of_tax == amount
        assert 0 <= of_tax <= left_tax
        assert 0 <= without <= left - left_tax
        left, left_tax = left - amount, left_tax - of_tax
    assert (left, left_tax) == (0, 0)
