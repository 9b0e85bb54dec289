"""Seconds, units and prices, to amounts. Pure; integers only, so nothing drifts.

What is charged when a run ends is the price for everybody, or the Account's own. Free units and cheaper steps are
counted by the month, and given back as discounts: see `discount_nanos`.
"""

from collections.abc import Mapping, Sequence
from decimal import ROUND_DOWN, Decimal
from typing import Any

MICROS_PER_SECOND = 1_000_000
MICROS_PER_HOUR = 3600 * MICROS_PER_SECOND
NANOS_PER_DOLLAR = 1_000_000_000

#: Counts come from containers, which are not believed beyond this.
MOST_UNITS = 10**12
#: A million dollars: no run is worth more, and nine thousand such charges still add up to a bigint.
MOST_CHARGE_NANOS = 10**6 * NANOS_PER_DOLLAR


def amount_nanos(micros: int, price_nanos_per_second: int) -> int:
    """Rounded down: a charge never exceeds what was run, nor `MOST_CHARGE_NANOS`."""
    return min(micros * price_nanos_per_second // MICROS_PER_SECOND, MOST_CHARGE_NANOS)


def unit_lines(unit_prices: Mapping[str, Mapping[str, Any]], counted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a run made of each metric that has a price: `{metric, quantity, price_id, nanos_per_unit, amount_nanos}`.

    `unit_prices` are {metric: {id, nanos}}. A count that is no number from 0 to `MOST_UNITS` is 0. Quantities are whole
    or have three digits, as seconds of video do; amounts are rounded down, and each at most `MOST_CHARGE_NANOS`.
    """
    lines = []
    for metric, price in sorted(unit_prices.items()):
        quantity = _quantity(counted.get(metric))
        amount = min(int((quantity * price["nanos"]).to_integral_value(ROUND_DOWN)), MOST_CHARGE_NANOS)
        lines.append(
            {
                "metric": metric,
                "quantity": float(quantity) if quantity % 1 else int(quantity),
                "price_id": price["id"],
                "nanos_per_unit": price["nanos"],
                "amount_nanos": amount,
            }
        )
    return lines


def _quantity(counted: Any) -> Decimal:
    if isinstance(counted, bool) or not isinstance(counted, int | float) or not 0 <= counted <= MOST_UNITS:
        return Decimal(0)
    return Decimal(str(counted)).quantize(Decimal("0.001"), ROUND_DOWN)


def price_of_volume(units: int, nanos_per_unit: int, free: int, steps: Sequence[Mapping[str, int]], per: int) -> int:
    """What `units` of a month come to with free units and steps `[{above, nanos_per_unit}]`; a price is for `per` of
    them."""
    bounds = [(free, nanos_per_unit)] + [(max(step["above"], free), step["nanos_per_unit"]) for step in _rising(steps)]
    total = 0
    for (begins, nanos), (ends, _) in zip(bounds, [*bounds[1:], (None, 0)], strict=True):
        upper = units if ends is None else min(units, ends)
        total += max(0, upper - begins) * nanos
    return total // per


def _rising(steps: Sequence[Mapping[str, int]]) -> list[Mapping[str, int]]:
    return sorted(steps, key=lambda step: step["above"])


def discount_nanos(before: int, more: int, charged_nanos: int, price: Mapping[str, Any], per: int) -> int:
    """What of `charged_nanos`, the list price of `more` units after `before` in the same month, is given back.

    `price` has `nanos_per_unit`, `free_units` and `steps`. Never more than was charged, never less than nothing.
    """
    terms = (price["nanos_per_unit"], price["free_units"], price["steps"], per)
    due = price_of_volume(before + more, *terms) - price_of_volume(before, *terms)
    return min(charged_nanos, max(0, charged_nanos - due))


def dollars(nanos: int) -> str:
    """`0.000123000`: exact, nine digits, for people and for CSV."""
    sign = "-" if nanos < 0 else ""
    return f"{sign}{abs(nanos) // NANOS_PER_DOLLAR}.{abs(nanos) % NANOS_PER_DOLLAR:09d}"


def nanos(amount: str) -> int:
    """`12.5` dollars, exactly. Raises `ValueError` for what is no amount, or finer than a nanodollar."""
    try:
        exact = Decimal(amount) * NANOS_PER_DOLLAR
        whole = int(exact)
    except (ArithmeticError, ValueError) as error:
        raise ValueError(f"{amount!r} is no amount of dollars; write it like 12.50.") from error
    if whole != exact:
        raise ValueError(f"{amount!r} is finer than a nanodollar.")
    return whole
