"""All pages: one file that needs nothing else, made from `templates/`, on a screen, a phone or paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from socrates.console import count, number
from socrates.errors import SocratesError
from socrates.files import atomic_write, remove_file
from socrates.report.results_folders import fixed

_START = 2000  # bytes of a page or picture, in which its generator stands
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.globals["count"] = count
_TEMPLATES.filters |= {"fixed": fixed, "number": number}


class Table(NamedTuple):
    """A table of texts."""

    heads: tuple[str, ...]  # of the columns; none for a table without
    rows: tuple[tuple[str, ...], ...]
    words: tuple[int, ...] = (0,)  # the columns that hold words; the others hold numbers
    title: str = ""


def render(template: str, *, title: str, generator: str, when: datetime, **context: Any) -> str:
    """A whole page; whatever the values hold, they are texts in it.

    Args:
        template: its name in `templates/`.
        title: of the page, also its heading.
        generator: the program that writes it, and what tells its pages apart (`check_page`).
        when: it was made.
        context: what else the template shows.
    """
    written = f"{when:%Y-%m-%d at %H:%M %Z}"
    text = _TEMPLATES.get_template(template).render(title=title, generator=generator, when=written, **context)
    return text.encode(errors="backslashreplace").decode()  # JSON may hold half a character


def flattened(record: Mapping[str, Any], name: str = "") -> dict[str, str]:
    """The single values of a record as texts, each under the names that lead to it."""
    found = {}
    for key, value in record.items():
        words = key.replace("_", " ")
        if isinstance(value, Mapping):
            found |= flattened(value, f"{name}, {words}" if name else words)
        elif value not in (None, "", []):
            found[f"{name}: {words}" if name else words] = f"{value:,}" if type(value) is int else str(value)
    return found


def check_page(page: Path, pictures: Iterable[Path], program: str, option: str) -> None:
    """SocratesError unless a page and its pictures may be written: under new names, or over those of this program.

    The page's path is what ``option`` of the command line gave.
    """
    if page.suffix.lower() not in (".html", ".htm"):
        raise SocratesError(f"{option} {page}: the page's name must end in .html")
    if page.is_dir():
        raise SocratesError(f"{option} {page}: is a folder; name the page in it")
    for path in (page, *pictures):
        try:
            start = path.read_bytes()[:_START] if path.exists() else program.encode()
        except OSError as error:
            raise SocratesError(f"{path}: cannot read: {error.strerror or error}") from error
        if program.encode() not in start:
            raise SocratesError(
                f"{path}: {program} did not write this file; name another page with {option} FILE, or move it away"
            )


def write_page(page: Path, text: str, pictures: Mapping[Path, bytes], earlier: Iterable[Path]) -> None:
    """Write a page and its pictures, each whole or not at all; of the ``earlier`` pictures, others are removed.

    Raises:
        SocratesError: something cannot be written.
    """
    for path in set(earlier) - set(pictures):
        remove_file(path)
    for path, png in pictures.items():
        with atomic_write(path, "wb") as file:
            file.write(png)
    with atomic_write(page) as file:
        file.write(text)
