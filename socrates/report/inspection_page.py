"""An inspection as one HTML page that needs nothing else: plots and tables, on a screen, a phone or paper."""

from __future__ import annotations

import hashlib
from datetime import datetime
from html import escape
from pathlib import Path

from socrates.console import count
from socrates.data.inspect.record import Inspection
from socrates.errors import SocratesError
from socrates.files import atomic_write
from socrates.report.html import MOST_ROWS, check_name, document, read_start, section
from socrates.report.inspection import sections
from socrates.report.inspection_plots import make_plots

_PROGRAM = "scripts/inspect_data.py"


def default_page(data_file: Path) -> Path:
    """Where the page goes if nobody says: the current folder, named after the data file and its folder."""
    folder = data_file.resolve().parent.name
    return Path("-".join(["inspection", *([folder] if folder else []), data_file.stem]) + ".html")


def check_page(path: Path, data_file: Path) -> None:
    """SocratesError unless the page may be written: under a new name, or over an earlier page about the same file."""
    check_name(path, "--report")
    start = read_start(path)
    if start is not None and _generator(data_file).encode() not in start:
        what = "about another data file" if _PROGRAM.encode() in start else "which this program did not write"
        raise SocratesError(f"{path}: is a page {what}; choose another name with --report PATH, or move it away")


def write_page(found: Inspection, path: Path, when: datetime) -> None:
    """Write the page, whole or not at all; SocratesError where that is not possible."""
    text = page(found, when)
    with atomic_write(path) as file:
        file.write(text)


def page(found: Inspection, when: datetime) -> str:
    """The page as HTML, with its plots in it; ``when`` the file was read."""
    plots = make_plots(found)
    counts = ", ".join(
        [
            count(found.rows, "row"),
            count(len(found.studies), "study", "studies"),
            count(found.cells, "cell"),
            *([count(found.participants, "participant")] if found.participants else []),
        ]
    )
    bad_rows = f"; <strong>{escape(count(found.bad_rows, 'bad row'))}</strong>" if found.bad_rows else ""
    header = [
        f"<p>{escape(counts)}{bad_rows}</p>",
        f'<p class="small">{escape(found.file)}, read on {when:%Y-%m-%d at %H:%M %Z}</p>',
    ]
    body = (
        section(
            part.key,
            part.title,
            part.lines,
            plots.get(part.key, ()),
            part.tables,
            kind="bad" if part.key == "bad" else "",
            most=None if part.key == "bad" else MOST_ROWS,
        )
        for part in sections(found)
    )
    return document(f"Inspection of {Path(found.file).name}", _generator(Path(found.file)), header, body)


def _generator(data_file: Path) -> str:
    digest = hashlib.sha256(str(data_file.resolve()).encode(errors="replace")).hexdigest()
    return f"{_PROGRAM} {digest[:16]}"
