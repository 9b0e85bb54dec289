"""Money, numbers and dates stand as their readers write them, exactly."""

from datetime import date
from decimal import Decimal

import pytest

from core.invoices import localized
from core.money.pricing import NANOS_PER_DOLLAR

AMOUNT = 1234567 * NANOS_PER_DOLLAR + 895_000_001
TRILLION = 10**12 * NANOS_PER_DOLLAR


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("locale", "amount", "zero", "most", "negative"),
    [
        ("en_US", "$1,234,567.90", "$0.00", "$1,000,000,000,000.00", "-$0.01"),
        ("de_DE", "1.234.567,90 $", "0,00 $", "1.000.000.000.000,00 $", "-0,01 $"),
        ("ja_JP", "$1,234,567.90", "$0.00", "$1,000,000,000,000.00", "-$0.01"),
        ("fr_FR", "1 234 567,90 $US", "0,00 $US", "1 000 000 000 000,00 $US", "-0,01 $US"),
    ],
)
def test_money_is_written_to_the_cent(locale: str, amount: str, zero: str, most: str, negative: str) -> None:
    shown = [plain(localized.money(nanos, locale)) for nanos in (AMOUNT, 0, TRILLION, -10_000_000)]
    assert shown == [amount, zero, most, negative]


def test_next_to_nothing_below_zero_is_nothing() -> None:
    assert localized.money(-1, "en_US") == "$0.00"


@pytest.mark.parametrize(
    ("locale", "amount", "cents"),
    [("en_US", "1,234,567.895000001", "12.50"), ("de_DE", "1.234.567,895000001", "12,50")],
)
def test_exact_amounts_have_the_digits_they_need_and_no_fewer_than_two(locale: str, amount: str, cents: str) -> None:
    assert localized.exact(AMOUNT, locale) == amount
    assert localized.exact(12_500_000_000, locale) == cents
    assert localized.exact(TRILLION + 1, locale).endswith("000000001")
    assert localized.exact(-1, "en_US", 9) == "-0.000000001"


def test_as_many_digits_as_others_need() -> None:
    assert localized.exact(12_500_000_000, "en_US", 6) == "12.500000"
    assert [localized.digits_of(nanos) for nanos in (0, 10_000_000, 1_000_000, 725_000, 1)] == [2, 2, 3, 6, 9]


@pytest.mark.parametrize(
    ("locale", "day", "month"),
    [
        ("en_US", "February 29, 2024", "February 2024"),
        ("de_DE", "29. Februar 2024", "Februar 2024"),
        ("ja_JP", "2024年2月29日", "2024年2月"),
    ],
)
def test_dates_are_written_in_the_readers_language(locale: str, day: str, month: str) -> None:
    assert localized.day(date(2024, 2, 29), locale) == day
    assert localized.month(date(2024, 2, 1), locale) == month


def test_rates_and_counts() -> None:
    assert localized.percent(77_500, "en_US") == "7.75%"
    assert plain(localized.percent(190_000, "de_DE")) == "19 %"
    assert localized.decimal(Decimal("1234567"), "de_DE", 0) == "1.234.567"
    assert localized.decimal(Decimal("0.5"), "en_US", 3) == "0.500"


@pytest.mark.parametrize("name", ["de_DE", "de-DE", "en", "pt_BR", "zh_Hans_CN"])
def test_a_locale_is_taken_in_either_spelling(name: str) -> None:
    assert localized.locale_of(name) == name.replace("-", "_")


@pytest.mark.parametrize("name", ["", "xx", "en_US/../../etc", "german", "en_US\x00", "e" * 500])
def test_what_is_no_locale_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no known locale"):
        localized.locale_of(name)


@pytest.mark.parametrize("name", ["", "Mars", "../UTC", "/etc/localtime", "UTC\x00"])
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no known time zone"):
        localized.timezone_of(name)
