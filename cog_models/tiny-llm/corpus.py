"""Reads the training text: Jane Austen's six novels, out of Debian's package r-cran-janeaustenr.

Knows how R stores its data sets (gzip index, zlib chunks) and how the novels are laid out in lines. Knows nothing of
tokens. R itself is not needed:

    apt-get download r-cran-janeaustenr && dpkg -x r-cran-janeaustenr_*.deb janeaustenr
"""

import re
import zlib
from pathlib import Path

import rdata

DATA = Path("usr/lib/R/site-library/janeaustenr/data")
PROSE = re.compile(r".*[a-z].*[.!?,;:'\"-]$")  # headings, years and the author's name end otherwise


def read_novels(package: Path) -> dict[str, str]:
    """The text of each novel by its short name, from the unpacked Debian package."""
    index = rdata.read_rds(package / DATA / "Rdata.rdx")["variables"]
    chunks = (package / DATA / "Rdata.rdb").read_bytes()
    return {str(name): as_paragraphs(read_lines(chunks[start : start + size])) for name, (start, size) in index.items()}


def read_lines(chunk: bytes) -> list[str]:
    """The lines in one data set: four bytes of length, then a compressed R object."""
    parsed = rdata.parser.parse_data(zlib.decompress(chunk[4:]), extension=".rds")
    return [str(line) for line in rdata.conversion.convert(parsed)]


def as_paragraphs(lines: list[str]) -> str:
    """The novel with one line per paragraph, without headings and without the underscores that mark italics."""
    paragraphs = " ".join(line.strip() or "\n" for line in lines).split("\n")
    kept = (text.strip().replace("_", "") for text in paragraphs if PROSE.match(text.strip()))
    return "\n\n".join(re.sub(r" +", " ", text) for text in kept if text)
