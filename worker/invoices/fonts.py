"""The fonts that invoices are set in, and what to fall back on for scripts they lack. Their licences lie beside them.

Latin, Greek and Cyrillic are Noto Sans; Hebrew, Arabic, Georgian and Armenian DejaVu Sans; Chinese, Japanese and Korean
Droid Sans Fallback. A fallback takes a while to read, so it is loaded only for a text that needs it.
"""

import logging
import unicodedata
from functools import cache
from pathlib import Path

from fontTools.ttLib import TTFont
from fpdf import FPDF

SANS = "sans"
_FOLDER = Path(__file__).parent / "fonts"
_REGULAR, _BOLD = "NotoSans-Regular.ttf", "NotoSans-Bold.ttf"
_FALLBACKS = ("DejaVuSans.ttf", "DroidSansFallback.ttf")

# It tells of every table it leaves out.
logging.getLogger("fontTools").setLevel(logging.WARNING)


def add_fonts(pdf: FPDF, text: str) -> None:
    """All that it takes to write `text`."""
    pdf.add_font(SANS, "", _FOLDER / _REGULAR)
    pdf.add_font(SANS, "B", _FOLDER / _BOLD)
    missing = _visible(text) - _characters(_REGULAR)
    needed = [file for file in _FALLBACKS if missing & _characters(file)] if missing else []
    for file in needed:
        pdf.add_font(file, "", _FOLDER / file)
    # They have no bold: a regular name is better than boxes.
    pdf.set_fallback_fonts(needed, exact_match=False)


def can_write(text: str) -> bool:
    missing = _visible(text) - _characters(_REGULAR)
    return not missing or missing <= frozenset().union(*map(_characters, _FALLBACKS))


def needs_shaping(text: str) -> bool:
    return any(unicodedata.bidirectional(character) in ("R", "AL") for character in text)


def _visible(text: str) -> set[int]:
    return {ord(character) for character in text if character.isprintable() and not character.isspace()}


@cache
def _characters(file: str) -> frozenset[int]:
    with TTFont(_FOLDER / file, lazy=True) as font:
        return frozenset(font.getBestCmap())
