"""A4 pages with a foot, and the few things that are drawn on them. Knows nothing of invoices.

Everything is placed by millimetres; `y` is where the next thing goes.
"""

from datetime import datetime

from fpdf import FPDF
from fpdf.enums import MethodReturnValue, WrapMode

from worker.invoices.fonts import SANS, add_fonts, needs_shaping

Colour = tuple[int, int, int]

INK: Colour = (16, 25, 30)
SOFT: Colour = (70, 84, 92)
FAINT: Colour = (118, 131, 140)
LINE: Colour = (225, 231, 234)
TINT: Colour = (238, 245, 248)
ACCENT: Colour = (11, 110, 138)

LEFT, RIGHT, TOP, BOTTOM = 18.0, 192.0, 18.0, 275.0
WIDTH = RIGHT - LEFT
_FOOT = 281.0
#: Of a line of text, in millimetres for each point of its size.
_LEADING = 0.49
_SMALLEST = 5.0


class Sheet(FPDF):
    """`text`: all that will be written, by which fonts are chosen. `foot` stands on every page, left of its number."""

    def __init__(self, title: str, foot: str, moment: datetime, text: str) -> None:
        super().__init__(format="A4")
        self._foot = foot
        self.set_auto_page_break(False)
        self.set_margin(0)
        self.c_margin = 0
        add_fonts(self, text)
        # The same document is the same file, whenever it is rendered.
        self.set_creation_date(moment)
        self.set_title(title)
        self.set_producer("Millrace")
        self.set_lang("en")

    def footer(self) -> None:
        self.rule(_FOOT - 3)
        self.write_at(LEFT, _FOOT, self._foot, size=7.5, colour=FAINT)
        # The number of pages is known last: room is left for one that is as wide as this page's.
        wide = self.width_of(f"Page {self.page_no()} of {self.page_no()}", 7.5)
        self.write_at(RIGHT - wide, _FOOT, f"Page {self.page_no()} of {{nb}}", size=7.5, colour=FAINT)

    def write_at(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 9,
        bold: bool = False,
        colour: Colour = INK,
        align: str = "L",
        width: float = WIDTH,
    ) -> None:
        """One line; smaller where it is wider than `width`. `x` is its right end where it is aligned right."""
        self._set(text, bold, size)
        wide = self.get_string_width(text)
        if wide > width:
            size = max(_SMALLEST, size * width / wide)
            self.set_font_size(size)
            wide = self.get_string_width(text)
        self.set_text_color(*colour)
        self.set_xy(x - wide if align == "R" else x, y)
        self.cell(wide, size * _LEADING, text, align="L")

    def write_block(
        self, x: float, y: float, text: str, width: float, *, size: float = 9, bold: bool = False, colour: Colour = INK
    ) -> float:
        """Lines, broken where they are too long. Returns where the next thing goes."""
        for line in self.broken(text, width, size=size, bold=bold):
            self.write_at(x, y, line, size=size, bold=bold, colour=colour, width=width)
            y += size * _LEADING
        return y

    def width_of(self, text: str, size: float) -> float:
        self._set(text, False, size)
        return self.get_string_width(text)

    def broken(self, text: str, width: float, *, size: float = 9, bold: bool = False) -> list[str]:
        self._set(text, bold, size)
        # Nearly always; to find out where else to break takes a hundred times as long.
        if "\n" not in text and self.get_string_width(text) <= width:
            return [text]
        # Where a word alone is too long, it is broken as well.
        return self.multi_cell(
            width, text=text, align="L", wrapmode=WrapMode.WORD, dry_run=True, output=MethodReturnValue.LINES
        )

    def _set(self, text: str, bold: bool, size: float) -> None:
        """What runs from right to left is shaped. It has no bold, and then nothing beside it has."""
        is_shaped = needs_shaping(text)
        self.set_text_shaping(is_shaped)
        self.set_font(SANS, "B" if bold and not is_shaped else "", size)

    def rule(self, y: float, *, left: float = LEFT, right: float = RIGHT, colour: Colour = LINE) -> None:
        self.set_draw_color(*colour)
        self.set_line_width(0.2)
        self.line(left, y, right, y)

    def tint(self, y: float, height: float) -> None:
        self.set_fill_color(*TINT)
        self.rect(LEFT, y, WIDTH, height, style="F", round_corners=True, corner_radius=1.6)
