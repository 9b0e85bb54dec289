"""From exact nanodollars to what an invoice asks for. Pure.

Lines are exact. Their sum is rounded to the cent once, to even where it lies in the middle; tax is computed on that
and rounded the same way. Nothing else is rounded.
"""

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from core.money.pricing import NANOS_PER_DOLLAR

NANOS_PER_CENT = NANOS_PER_DOLLAR // 100
PARTS = 1_000_000


def to_cents(nanos: int | Fraction) -> int:
    """Nanodollars again, but whole cents."""
    return round(Fraction(nanos) / NANOS_PER_CENT) * NANOS_PER_CENT


def tax_nanos(taxable_nanos: int, parts_per_million: int) -> int:
    return to_cents(Fraction(taxable_nanos * parts_per_million, PARTS))


@dataclass(frozen=True, slots=True)
class Totals:
    exact_nanos: int
    """The sum of the lines."""
    subtotal_nanos: int
    """The same, to the cent: what is taxed."""
    tax_nanos: int
    total_nanos: int
    """Below zero where more was given back than used."""
    paid_nanos: int
    """Of the total, what the wallet had, as money that was paid in."""
    promotional_nanos: int
    """And as credit that was given."""
    due_nanos: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def totals(exact_nanos: int, parts_per_million: int, owed_nanos: int, promotional_nanos: int) -> Totals:
    """`owed_nanos`: how far the wallet was below zero when the month ended; of this month, that is not paid.

    `promotional_nanos`: how much given credit was used meanwhile. Tax is in no wallet: it is always due.
    """
    subtotal = to_cents(exact_nanos)
    tax = tax_nanos(subtotal, parts_per_million)
    unpaid = subtotal if owed_nanos >= exact_nanos else min(to_cents(max(owed_nanos, 0)), subtotal)
    paid = max(subtotal, 0) - max(unpaid, 0)
    promotional = min(to_cents(max(promotional_nanos, 0)), paid)
    due = max(subtotal + tax - paid, 0)
    return Totals(exact_nanos, subtotal, tax, subtotal + tax, paid - promotional, promotional, due)


def credit(amount_nanos: int, left_nanos: int, left_tax_nanos: int, parts_per_million: int) -> tuple[int, int]:
    """Of an amount given back, tax included: (without tax, tax). Neither is more than is left of it."""
    share = to_cents(Fraction(amount_nanos * parts_per_million, PARTS + parts_per_million))
    beyond_the_rest = amount_nanos - (left_nanos - left_tax_nanos)
    tax = max(min(share, left_tax_nanos), beyond_the_rest)
    return amount_nanos - tax, tax
