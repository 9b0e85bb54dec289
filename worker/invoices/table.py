"""The lines of an invoice as a table over as many pages as it takes, its head repeated on each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from core.invoices.invoice_lines import SECOND
from core.invoices.localized import decimal, digits_of, exact
from core.money.ledger import Kind
from core.usage.metering import PREDICTION
from worker.invoices.sheet import BOTTOM, FAINT, INK, LEFT, RIGHT, SOFT, TOP, WIDTH, Sheet

#: Right ends of the columns; the first begins at the left.
_RUNS, _QUANTITY, _PRICE = LEFT + 84, LEFT + 112, LEFT + 138
_DESCRIPTION_WIDTH = 64.0
_AMOUNT_WIDTH = 34.0
_ROW, _GROUP, _HEAD = 6.0, 7.5, 9.0
_INDENT = 3.0

_TITLES = {
    Kind.DISCOUNT: "Volume discounts",
    Kind.REFUND: "Refunds",
    Kind.WAIVER: "Not charged",
    "credit": "Credited",
}
_WAIVED = "What runs cost beyond the money held for them"


@dataclass(frozen=True, slots=True)
class _Row:
    description: str
    amount_nanos: int
    runs: str = ""
    quantity: str = ""
    price: str = ""


class Table:
    """Draws from `y` on; begins pages where it needs them."""

    def __init__(self, sheet: Sheet, locale: str, lines: Sequence[Mapping[str, Any]], y: float) -> None:
        self._sheet, self._locale, self._y = sheet, locale, y
        self._groups = _grouped(lines, locale)
        # One number of digits for all, so that they stand under each other.
        self._digits = max((digits_of(line["amount_nanos"]) for line in lines), default=2)

    def draw(self) -> float:
        self._head()
        for title, rows in self._groups.items():
            self._make_room(_GROUP + _ROW, title)
            self._title(title)
            for row in rows:
                self._row(title, row)
            self._y += 1.5
            self._sheet.rule(self._y)
        return self._y

    def _head(self) -> None:
        columns = (("Runs", _RUNS), ("Quantity", _QUANTITY), ("Unit price", _PRICE), ("Amount, USD", RIGHT))
        self._sheet.write_at(LEFT, self._y, "Description", size=7.5, colour=FAINT)
        for name, right in columns:
            self._sheet.write_at(right, self._y, name, size=7.5, colour=FAINT, align="R")
        self._sheet.rule(self._y + 5.5, colour=INK)
        self._y += _HEAD - 3

    def _title(self, title: str) -> None:
        self._y += 2
        self._y = self._sheet.write_block(LEFT, self._y, title, WIDTH - _AMOUNT_WIDTH, bold=True) + 1.2

    def _make_room(self, height: float, title: str) -> bool:
        """On the next page, if there is too little left of this one."""
        if self._y + height <= BOTTOM:
            return False
        self._sheet.add_page()
        self._y = TOP
        self._head()
        return True

    def _row(self, title: str, row: _Row) -> None:
        sheet = self._sheet
        width = _DESCRIPTION_WIDTH if row.quantity else _PRICE - LEFT - _INDENT
        lines = sheet.broken(row.description, width, size=8.5)
        height = max(_ROW, len(lines) * 4.2 + 1.6)
        if self._make_room(height, title):
            self._title(f"{title} (continued)")
        y = self._y
        sheet.write_block(LEFT + _INDENT, y, row.description, width, size=8.5, colour=SOFT)
        sheet.write_at(_RUNS, y, row.runs, size=8.5, colour=SOFT, align="R", width=18)
        sheet.write_at(_QUANTITY, y, row.quantity, size=8.5, colour=SOFT, align="R", width=26)
        sheet.write_at(_PRICE, y, row.price, size=8.5, colour=SOFT, align="R", width=24)
        self._amount(row.amount_nanos, y)
        self._y += height

    def _amount(self, nanos: int, y: float) -> None:
        """What is less than a cent is there for whoever adds it up, and in nobody's way."""
        text, beyond = exact(nanos, self._locale, self._digits), self._digits - 2
        cents, rest = (text[:-beyond], text[-beyond:]) if beyond else (text, "")
        size = 8.5 * min(1.0, _AMOUNT_WIDTH / self._sheet.width_of(text, 8.5))
        right = RIGHT - self._sheet.width_of(rest, size)
        self._sheet.write_at(right, y, cents, size=size, align="R")
        self._sheet.write_at(right, y, rest, size=size, colour=FAINT)


def _grouped(lines: Sequence[Mapping[str, Any]], locale: str) -> dict[str, list[_Row]]:
    groups: dict[str, list[_Row]] = {}
    for line in lines:
        is_usage = line["kind"] == Kind.USAGE
        title = line["model"] if is_usage else _TITLES[line["kind"]]
        groups.setdefault(title, []).append(_usage(line, locale) if is_usage else _given_back(line, locale))
    return groups


def _usage(line: Mapping[str, Any], locale: str) -> _Row:
    is_timed = line["metric"] == SECOND
    what = "runs" if line["cause"] == PREDICTION else f"instance time, {line['phase']}"
    quantity = Decimal(line["quantity"])
    return _Row(
        description=f"{line['hardware_name']} · {what if is_timed else line['metric']}",
        amount_nanos=line["amount_nanos"],
        runs=decimal(Decimal(line["runs"]), locale, 0) if line["runs"] else "",
        quantity=decimal(quantity, locale, max(0, -quantity.as_tuple().exponent)) + (" s" if is_timed else ""),
        price=exact(line["nanos_per_unit"], locale),
    )


def _given_back(line: Mapping[str, Any], locale: str) -> _Row:
    times = f" ({decimal(Decimal(line['count']), locale, 0)} times)" if line["count"] > 1 else ""
    return _Row(f"{line['reason'] or _WAIVED}{times}", line["amount_nanos"])
