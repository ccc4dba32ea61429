"""An inspection as the text that a terminal shows: aligned tables, the long ones cut."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from socrates.inspection.record import Inspection
from socrates.inspection.tables import sections
from socrates.tables import Table, number

MOST_ROWS = 10  # of a table
_WIDTH, _LEAST = 110, 40  # characters of a line, and of its last column where the others leave less


def inspection_text(found: Inspection) -> str:
    """All sections, one below the other."""
    lines = [found.file]
    for section in sections(found):
        most = len(found.first_bad) if section.key == "bad" else MOST_ROWS
        lines += ["", section.title]
        for line in section.lines:
            lines += textwrap.wrap(line, _WIDTH, initial_indent="  ", subsequent_indent="    ")
        for table in section.tables:
            lines += [f"  {table.title}:"] if table.title else []
            lines += [f"  {line}" for line in _aligned(table, most)]
    return "\n".join(map(_printable, lines))


def _aligned(table: Table, most: int) -> Iterator[str]:
    rows, heads = table.rows[:most], [table.heads] if any(table.heads) else []
    widths = [max(map(len, column)) for column in zip(*heads, *rows, strict=True)]
    words = {*range(table.left), *([len(widths) - 1] if table.words_last else [])}
    before = sum(widths[:-1]) + 2 * (len(widths) - 1)
    for row in [*heads, *rows]:
        cells = [f"{c:<{w}}" if i in words else f"{c:>{w}}" for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        first, *more = textwrap.wrap(cells[-1].rstrip(), max(_WIDTH - before, _LEAST)) or [""]
        last = first if len(widths) - 1 in words else cells[-1]
        yield "  ".join([*cells[:-1], last]).rstrip()
        yield from (" " * before + line for line in more)
    if len(table.rows) > most:
        yield f"and {number(len(table.rows) - most)} more"


def _printable(line: str) -> str:
    """Without what would steer a terminal: names and values are as somebody wrote them."""
    return line if line.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
