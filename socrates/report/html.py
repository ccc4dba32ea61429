"""HTML of all pages: one file that needs nothing else, on a screen, a phone or paper."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from socrates.console import Table, number
from socrates.errors import SocratesError
from socrates.report.plot import Plot

MOST_ROWS = 10  # of a table, before the rest is folded away
_NARROW = 5  # columns of tables that fit beside a plot on paper
STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem clamp(1rem, 4vw, 2.5rem) 3rem; background: #fff;
  color: #1c1c1c; font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: clamp(1.4rem, 4vw, 1.9rem); line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .5rem; }
header { border-bottom: 2px solid #1c1c1c; padding-bottom: .8rem; margin-bottom: 1.6rem; }
header p { margin: .1rem 0; overflow-wrap: anywhere; }
.small { color: #555; font-size: .9rem; }
section { margin: 0 0 1.2rem; padding: 0 0 1.2rem; border-bottom: 1px solid #d5d5d5; }
section p { margin: 0 0 .35rem; max-width: 52rem; }
section:last-child { border: 0; margin: 0; padding: 0; }
.bad { border: 2px solid #1c1c1c; padding: .9rem 1rem; }
.parts { display: grid; gap: 1rem 2rem; grid-template-columns: minmax(0, 1fr); align-items: start; }
figure { margin: .6rem 0 0; }
figure img { display: block; width: 100%; max-width: 30rem; height: auto; }
.scroll { overflow-x: auto; margin-top: .6rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; white-space: nowrap; font-weight: 600; padding: .4rem 0 .2rem; }
th, td { text-align: right; padding: .18rem .65rem .18rem 0; vertical-align: top; white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
th.word, td.word { text-align: left; }
td.word:last-child { white-space: normal; min-width: 9rem; overflow-wrap: break-word; }
thead th { white-space: normal; border-bottom: 1px solid #777; font-weight: 600; vertical-align: bottom; }
tbody tr + tr > * { border-top: 1px solid #ececec; }
tbody th { font-weight: 400; white-space: normal; }
details { margin-top: .3rem; font-size: .9rem; }
summary { cursor: pointer; }
.lead p:first-of-type { font-size: 1.25rem; line-height: 1.35; font-weight: 600; }
.words table { width: 100%; table-layout: fixed; }
.words thead th:first-child { width: 11rem; }
.words th, .words td { white-space: normal; overflow-wrap: anywhere; }
@media (min-width: 60rem) {
  .with-plots .parts { grid-template-columns: minmax(0, 25rem) minmax(0, 1fr); }
  .many .parts { grid-template-columns: minmax(0, 1fr); }
  .many .plots { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 0 1.5rem; align-items: start; }
}
@media (max-width: 40rem) { /* what people wrote gets a line of its own */
  td { white-space: normal; }
  .words thead th:first-child { width: 6.5rem; }
  .words-last, .words-last tbody, .words-last thead { display: block; }
  .words-last tr { display: flex; flex-wrap: wrap; padding: .2rem 0; }
  .words-last tr > * { flex: 0 0 4.5rem; border: 0; }
  .words-last tr > :first-child { flex: 1 1 6rem; font-weight: 600; }
  .words-last tr > :last-child { flex: 0 0 100%; }
  .words-last thead tr { border-bottom: 1px solid #777; }
  .words-last tbody tr + tr { border-top: 1px solid #ececec; }
}
@media print {
  @page { margin: 14mm; }
  body { padding: 0; max-width: none; font-size: 10pt; }
  h2, section p, caption, thead { break-after: avoid; }
  figure, tr, .bad { break-inside: avoid; }
  figure img { max-width: 100mm; }
  .narrow { break-inside: avoid; }
  .narrow .parts { grid-template-columns: 82mm minmax(0, 1fr); }
  .narrow figure img { max-width: 82mm; }
  .many .parts { grid-template-columns: minmax(0, 1fr); }
  .many .plots { display: grid; grid-template-columns: 1fr 1fr; gap: 0 5mm; }
  .scroll { overflow: visible; }
  thead th, td.word { white-space: normal; }
  details:not([open]) > summary { list-style: none; }
}
"""


def document(title: str, generator: str, header: Sequence[str], sections: Iterable[str]) -> str:
    """A whole page.

    Args:
        title: of the page, also its heading; plain text.
        generator: the program that writes it, and what tells its pages apart (see `read_start`).
        header: the paragraphs below the heading, as HTML.
        sections: as HTML, see `section`.
    """
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="{escape(generator)}">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{chr(10).join(header)}
</header>
<main>
{chr(10).join(sections)}
</main>
</body>
</html>
"""


def section(
    key: str,
    title: str,
    lines: Sequence[str] = (),
    plots: Sequence[Plot] = (),
    tables: Sequence[Table] = (),
    *,
    folded: Mapping[str, Sequence[Table]] | None = None,
    kind: str = "",
    most: int | None = MOST_ROWS,
) -> str:
    """A titled part of a page: sentences, then pictures with tables beside or below them; all texts plain.

    Args:
        key: its name in links.
        title: its heading.
        lines: a paragraph each.
        plots: its pictures.
        tables: its tables.
        folded: more tables, under the words that unfold them.
        kind: classes of the style sheet: "lead" (the first sentence is large), "many" (small pictures side by side),
            "words" (tables of words), "bad" (framed).
        most: rows of a table before the rest is folded away; None: all are shown.
    """
    kinds = " ".join([*([kind] if kind else []), *(["with-plots"] if plots else [])])
    first = tables[:1]
    if plots and all(len(_upright(table).heads) <= _NARROW and not table.words_last for table in first):
        kinds += " narrow"
    parts = [f'<section id="{key}" class="{kinds}">', f"<h2>{escape(title)}</h2>"]
    parts += [f"<p>{escape(line)}</p>" for line in lines]
    if plots or tables:
        parts.append('<div class="parts">')
        if plots:
            parts += ['<div class="plots">', *map(_figure, plots), "</div>"]
        parts += ["<div>", *(_table(table, most) for table in tables)]
        for words, hidden in (folded or {}).items():
            inner = "\n".join(_table(table, most) for table in hidden)
            parts.append(f"<details><summary>{escape(words)}</summary>{inner}</details>")
        parts += ["</div>", "</div>"]
    parts.append("</section>")
    return "\n".join(parts)


def check_name(path: Path, option: str) -> None:
    """SocratesError unless a page may have this name, which ``option`` gave."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise SocratesError(f"{option} {path}: the page's name must end in .html")
    if path.is_dir():
        raise SocratesError(f"{option} {path}: is a folder; name the page in it")


def read_start(path: Path) -> bytes | None:
    """The first bytes of an earlier page or picture, in which its generator stands; None where there is none."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as file:
            return file.read(2000)
    except OSError as error:
        raise SocratesError(f"{path}: cannot read: {error.strerror or error}") from error


def _figure(plot: Plot) -> str:
    data = base64.b64encode(plot.svg).decode()
    return f'<figure><img src="data:image/svg+xml;base64,{data}" alt="{escape(plot.alt)}"></figure>'


def _upright(table: Table) -> Table:
    """Quantiles one below the other, where they fit beside a plot and on a phone; other tables as they are."""
    if table.heads[:1] != ("",):
        return table
    columns = tuple(zip(table.heads, *table.rows, strict=True))
    return replace(table, heads=columns[0], rows=columns[1:])


def _table(table: Table, most: int | None) -> str:
    table = _upright(table)
    shown, rest = table.rows[:most], table.rows[most:] if most else ()
    text = _rows(table, shown, table.title)
    if rest:
        text += f"<details><summary>and {number(len(rest))} more</summary>{_rows(table, rest, '')}</details>"
    return text


def _rows(table: Table, rows: Sequence[Sequence[str]], title: str) -> str:
    words = {*range(table.left), *([len(rows[0]) - 1] if table.words_last and rows else [])}

    def cells(row: Sequence[str], heads: bool) -> str:
        kinds = ["th" if (cell if heads else i == 0) else "td" for i, cell in enumerate(row)]
        scope = "col" if heads else "row"
        return "".join(
            f"<{kind}{f' scope={scope}' if kind == 'th' else ''}{' class=word' if i in words else ''}>"
            f"{escape(cell)}</{kind}>"
            for i, (kind, cell) in enumerate(zip(kinds, row, strict=True))
        )

    caption = f"<caption>{escape(title)}</caption>" if title else ""
    heads = f"<thead><tr>{cells(table.heads, True)}</tr></thead>" if any(table.heads) else ""
    body = "\n".join(f"<tr>{cells(row, False)}</tr>" for row in rows)
    kind = ' class="words-last"' if table.words_last else ""
    label = escape(title or "the rest of the table")  # a part that scrolls needs a name, and the keyboard to reach it
    box = f'<div class="scroll" role="group" tabindex="0" aria-label="{label}">'
    return f"{box}<table{kind}>{caption}{heads}<tbody>{body}</tbody></table></div>"
