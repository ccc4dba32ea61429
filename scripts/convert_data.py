#!/usr/bin/env python3
"""Convert answers as people have them into rows of the published layout, which every other program here reads.

  python scripts/convert_data.py survey.sav --guess --columns columns.json
  python scripts/convert_data.py survey.sav --columns columns.json --output rows.jsonl
  python scripts/convert_data.py export.csv survey.qsf --columns columns.json --output rows.jsonl

FILE is CSV or TSV (any delimiter and encoding), a JSON array, JSONL, parquet, Excel, SPSS (.sav), Stata (.dta), or a
Qualtrics export, with its .qsf beside it or named. columns.json says which column is what:

  {"study": "tax_letter", "person": "id", "condition": "arm", "weight": "wgt",
   "demographics": {"age": "age", "gender": "sex"},
   "conditions": {"control": null, "letter": "The city writes: …"},
   "questions": {"fair": {"text": "How fair is the tax?", "scale": "1 to 7", "missing": [99]}, "pay": {…}}}

A row is a person there, and "questions" are columns. Where a row is one answer, "question" and "answer" name the
columns of the question and the answer, "text" that of the question's text, "count" how many people gave the answer, and
"prediction" an answer made elsewhere. "study_column" may stand in place of "study", and "stimulus", a column with what
people read, in place of "conditions". Texts, scales, labels and missing codes that are not given come from the file,
where it has them: then ["fair", "pay"] will do. "scale", "missing" and "nominal" may stand at the top, for all
questions. A scale is "1 to 7", "1, 2, 8", "0 to 100 by 10", or {"1": "Never", "2": "Always"}: then answers may be
labels. "encoding" is that of a text file. --guess writes a first columns.json, and shows three rows.

Exit status: 0 done, 2 cannot, 130 interrupted.
"""

import _bootstrap  # noqa: F401

import argparse
from pathlib import Path

from socrates.errors import EXIT_DONE, SocratesError, escaped, make_parser, run_entry_point


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("files", metavar="FILE", nargs="+", type=Path, help="a table, or several with the same columns")
    add("--columns", metavar="FILE", type=Path, help="which column is what, as JSON")
    add("--output", metavar="FILE", type=Path, help="JSONL to write")
    add("--guess", action="store_true", help="write a first --columns FILE, or print it; convert nothing")
    add("--max-bad-rows", metavar="N", type=int, default=0, help="leave out so many rows or answers (0)")
    arguments = parser.parse_args()
    if arguments.guess == bool(arguments.output):
        parser.error("takes either --output FILE or --guess")
    if not arguments.guess and arguments.columns is None:
        parser.error("--output needs --columns FILE; --guess makes a first one")
    if arguments.max_bad_rows < 0:
        parser.error(f"argument --max-bad-rows: must be at least 0, not {arguments.max_bad_rows}")
    return arguments


def main() -> int:
    """Parse, convert or guess, say what was found."""
    arguments = parse_arguments()
    if arguments.guess:
        return guess(arguments.files, arguments.columns)
    from socrates.data.convert.columns import read_columns
    from socrates.data.convert.rows import convert_to

    columns = read_columns(arguments.columns)
    found = convert_to(arguments.files, columns, arguments.output, arguments.max_bad_rows)
    print("\n".join([*found.lines(), f"Converted: {arguments.output}: {found.rows:,} rows"]), flush=True)
    return EXIT_DONE


def guess(files: list[Path], path: Path | None) -> int:
    """Write a guessed columns.json, or print it; show what it makes of the first rows."""
    from itertools import islice

    from socrates.data.convert.columns import Columns
    from socrates.data.convert.guess import columns_text, guess_columns
    from socrates.data.convert.rows import Conversion, convert_rows
    from socrates.data.records import render_prompt
    from socrates.files import atomic_write
    from socrates.schema import validate

    if path is not None and path.exists():
        raise SocratesError(f"--columns {path}: is there already; name another file, or remove it")
    text = columns_text(guessed := guess_columns(files))
    if path is None:
        print(escaped(text))
    else:
        with atomic_write(path) as file:
            file.write(text)
        print(f"Guessed: {path}; check each line of it, and the scales, which are those of the answers seen\n")
    found = Conversion()
    rows = list(islice(convert_rows(files, validate(Columns, guessed, "the guess, to be completed"), found), 3))
    for row in rows:
        answer = row.get("response", row.get("counts"))
        print(escaped(f"{render_prompt(row['demographic'], row['stimuli'])}\n→ {answer}\n"))
    if not rows:
        found.refuse(0)
    return EXIT_DONE


if __name__ == "__main__":
    run_entry_point(main)
