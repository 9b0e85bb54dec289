"""A document of an invoice or a credit note as a PDF. Pure: the same document is the same bytes, whenever it is asked
for and wherever.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from core.invoices import localized
from core.invoices.invoices import CREDIT_NOTE
from worker.invoices.fonts import can_write
from worker.invoices.sheet import ACCENT, BOTTOM, FAINT, INK, LEFT, RIGHT, SOFT, TOP, WIDTH, Colour, Sheet
from worker.invoices.table import Table

_HALF = WIDTH / 2
_TOTALS_LEFT = LEFT + 92
_RIGHT_HALF = LEFT + 108
_NOTES_WIDTH = _TOTALS_LEFT - LEFT - 12
_ROW = 6.0
_DEFAULT_LOCALE = "en_US"

_EXACT = "Amounts are exact; each run is rounded down to a nanodollar. Their sum is rounded to the cent once."


#: Its lines, and how they are set.
_Note = tuple[list[str], float, Colour]


def render(document: Mapping[str, Any]) -> bytes:
    return _Page(document).draw()


class _Page:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._locale = document["locale"]
        self._is_credit = document["kind"] == CREDIT_NOTE
        self._name = "Credit note" if self._is_credit else "Invoice"
        self._issued = datetime.fromisoformat(document["issued_at"])
        # Of dates alone, months have names, and not every script can be written here.
        self._dates = self._locale if can_write(self._month(self._locale)) else _DEFAULT_LOCALE
        number, seller = document["number"], document["seller"]["name"]
        self._sheet = Sheet(f"{self._name} {number}", f"{seller} · {number}", self._issued, self._all_text())

    def draw(self) -> bytes:
        self._sheet.add_page()
        y = self._heading()
        y = self._buyer(y)
        y = self._banner(y)
        y = Table(self._sheet, self._locale, self._document["lines"], y).draw()
        self._end(y)
        return bytes(self._sheet.output())

    # --- the first page ---

    def _heading(self) -> float:
        """What it is on the left, whose on the right."""
        sheet, seller = self._sheet, self._document["seller"]
        sheet.write_at(LEFT, TOP, self._name, size=22, bold=True)
        y = TOP + 16
        for label, value in self._facts():
            sheet.write_at(LEFT, y, label, size=8.5, colour=FAINT)
            sheet.write_at(LEFT + 32, y, value, size=8.5, bold=label.endswith("number"), width=_HALF - 38)
            y += 5
        sheet.write_at(
            _RIGHT_HALF, TOP + 2.5, seller["name"], size=13, bold=True, colour=ACCENT, width=RIGHT - _RIGHT_HALF
        )
        return max(y, self._details(_RIGHT_HALF, TOP + 15.6, seller)) + 7

    def _facts(self) -> Iterator[tuple[str, str]]:
        document = self._document
        yield f"{self._name} number", document["number"]
        issued = self._issued.astimezone(ZoneInfo(document["timezone"])).date()
        yield "Date of issue", localized.day(issued, self._dates)
        if self._is_credit:
            yield "Corrects invoice", document["corrects"]["number"]
        first, last = (date.fromisoformat(document[name]) for name in ("first_day", "last_day"))
        yield "Service period", f"{localized.days(first, last, self._dates)} ({document['timezone']})"
        yield "Account", document["buyer"]["username"]

    def _buyer(self, y: float) -> float:
        buyer = self._document["buyer"]
        self._sheet.write_at(LEFT, y, "Billed to", size=7.5, colour=FAINT)
        y = self._sheet.write_block(LEFT, y + 4.5, buyer["name"], WIDTH, size=10, bold=True)
        return self._details(LEFT, y, buyer) + 7

    def _details(self, x: float, y: float, party: Mapping[str, str]) -> float:
        tax_id = f"Tax ID {party['tax_id']}" if party["tax_id"] else ""
        for text in (party["address"], party["email"], tax_id):
            if text:
                y = self._sheet.write_block(x, y + 0.5, text, RIGHT - x, size=8.5, colour=SOFT)
        return y

    def _banner(self, y: float) -> float:
        height = 17.0
        self._sheet.tint(y, height)
        cells = list(self._highlights())
        for number, (label, value) in enumerate(cells):
            x = LEFT + 6 + number * (WIDTH - 6) / len(cells)
            self._sheet.write_at(x, y + 3.4, label, size=7.5, colour=SOFT)
            is_last = number == len(cells) - 1
            colour = ACCENT if is_last else INK
            self._sheet.write_at(x, y + 8, value, size=12.5, bold=True, colour=colour, width=WIDTH / len(cells) - 8)
        return y + height + 8

    def _highlights(self) -> Iterator[tuple[str, str]]:
        document = self._document
        yield "Usage of", self._month(self._dates)
        if self._is_credit:
            yield "Credited", self._money(document["total_nanos"])
        else:
            yield "Total", self._money(document["total_nanos"])
            yield "Amount due", self._money(document["due_nanos"])

    # --- the end ---

    def _end(self, y: float) -> None:
        """What it comes to on the right, what there is to say about it on the left."""
        rows, notes = list(self._sums()), list(self._notes())
        heights = [len(rows) * _ROW + 4, sum(len(lines) * size * 0.5 + 3 for lines, size, _ in notes)]
        if y + 5 + max(heights) > BOTTOM:
            self._sheet.add_page()
            y = TOP
        self._totals(y + 5, rows)
        self._say(y + 5, notes)

    def _totals(self, y: float, rows: Sequence[tuple[str, int]]) -> None:
        for number, (label, nanos) in enumerate(rows):
            is_last = number == len(rows) - 1
            if is_last:
                self._sheet.rule(y, left=_TOTALS_LEFT, colour=INK)
                y += 2.2
            size, colour = (11, INK) if is_last else (9, SOFT)
            self._sheet.write_at(_TOTALS_LEFT, y, label, size=size, bold=is_last, colour=colour, width=40)
            self._sheet.write_at(RIGHT, y, self._money(nanos), size=size, bold=is_last, align="R", width=42)
            y += _ROW

    def _say(self, y: float, notes: Sequence[_Note]) -> None:
        for lines, size, colour in notes:
            y = self._sheet.write_block(LEFT, y, "\n".join(lines), _NOTES_WIDTH, size=size, colour=colour) + 3

    def _sums(self) -> Iterator[tuple[str, int]]:
        document = self._document
        yield "Subtotal", document["subtotal_nanos"]
        if document["tax_parts_per_million"]:
            rate = localized.percent(document["tax_parts_per_million"], self._locale)
            yield f"{document['tax_name']} {rate}", document["tax_nanos"]
        if self._is_credit:
            yield "Credited", document["total_nanos"]
            return
        yield "Total", document["total_nanos"]
        if document["paid_nanos"]:
            yield "Paid from balance", -document["paid_nanos"]
        if document["promotional_nanos"]:
            yield "Promotional credit", -document["promotional_nanos"]
        yield "Amount due", document["due_nanos"]

    def _notes(self) -> Iterator[_Note]:
        if self._is_credit:
            return
        for text, size, colour in ((self._document["seller"]["note"], 8.5, SOFT), (_EXACT, 7.5, FAINT)):
            if text:
                yield self._sheet.broken(text, _NOTES_WIDTH, size=size), size, colour

    # --- words ---

    def _month(self, locale: str) -> str:
        return localized.month(date.fromisoformat(self._document["month"]), locale)

    def _money(self, nanos: int) -> str:
        return localized.money(nanos, self._locale)

    def _all_text(self) -> str:
        """Whatever may be written, in any order."""
        document = self._document
        parties = [value for name in ("seller", "buyer") for value in document[name].values()]
        lines = [str(value) for line in document["lines"] for value in line.values()]
        money = [self._money(-1234567890), localized.day(self._issued, self._dates), self._month(self._dates)]
        return "\n".join([*parties, *lines, *money, document["tax_name"], *(text for _, text in self._facts())])
