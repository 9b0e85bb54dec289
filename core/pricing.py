"""Seconds and a price, to an amount. Pure; integers only, so nothing drifts."""

MICROS_PER_SECOND = 1_000_000
NANOS_PER_DOLLAR = 1_000_000_000


def amount_nanos(micros: int, price_nanos_per_second: int) -> int:
    """Rounded down: a charge never exceeds what was run."""
    return micros * price_nanos_per_second // MICROS_PER_SECOND


def dollars(nanos: int) -> str:
    """`0.000123000`: exact, nine digits, for people and for CSV."""
    sign = "-" if nanos < 0 else ""
    return f"{sign}{abs(nanos) // NANOS_PER_DOLLAR}.{abs(nanos) % NANOS_PER_DOLLAR:09d}"
