#!/usr/bin/env python3
"""Look into a data file of human answers: rows, studies, cells, scales, people, repeats, lengths, duplicates.

  python scripts/inspect_data.py data/socsci210_full/train.jsonl
  python scripts/inspect_data.py data/socsci210_full/val.jsonl --config config_full_dataset.json --report

Both layouts are read. Rows that cannot be used are counted, the first 20 are named, and the others are looked into.
Exit status: 0 done, 1 there are bad rows, 2 cannot, 130 interrupted.
"""

import _bootstrap  # noqa: F401

import argparse
import sys
from pathlib import Path

from socrates.errors import EXIT_DONE, EXIT_NO, escaped, make_parser, run_entry_point

KEYS = """
keys of --json (all figures are of the rows that are not bad):
  file              path, rows, bad_rows, and its studies, conditions, questions (study, task), cells (study, condition,
                    task), named participants
  bad_rows          the first 20, by line
  studies           of each: these counts
  cells             sizes: their quantiles; of one_answer; judgeable: answers differ; rows of these
  demographics      of each field: rows in which it is known, groups, the most common of these; numbers are grouped
                    as in results
  scales            each with the form in which texts state it, or (scale null) why they state none, rows, studies
  stated_by_rows    rows that hold a scale, nominal, missing, a weight or counts of their own; their scale wins over the
                    text's, and those whose text states another one are counted
  off_scale         by study: rows without a scale, answers outside their scale, the first line of these; codes of
                    missing answers (left out of training and evaluation); stated answers far from the rest of theirs
  differing_scales  cells whose rows state several; questions whose scale depends on the condition
  repeated          groups of rows with one (study, participant, task), and those with other stimuli in each row
  lengths           quantiles of characters of a prompt and, with --config, tokens of a row; rows above max_length
  duplicates        rows like an earlier one; rows whose prompt another row has, too
"""
PAGE_HERE = Path()  # --report without a path


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__)
    parser.epilog = KEYS
    add = parser.add_argument
    add("file", metavar="FILE", type=Path, help="JSONL with human answers, or with --columns a table")
    add(
        "--columns",
        metavar="FILE",
        type=Path,
        help="which column of a table is what (convert_data.py): converts it first",
    )
    add("--json", action="store_true", help="print one JSON object, with everything in full, and no text")
    add(
        "--report",
        metavar="PATH",
        type=Path,
        nargs="?",
        const=PAGE_HERE,
        help="write a page with plots as well (inspection-FOLDER-FILE.html in the current folder)",
    )
    add("--config", metavar="FILE", help="run config: count tokens for its model, and rows longer than its max_length")
    return parser.parse_args()


def main() -> int:
    """Parse, inspect, print, and write the page if asked."""
    arguments = parse_arguments()
    from socrates.data.inspect import inspect_file

    if arguments.report is not None:
        import matplotlib  # noqa: F401  # now: a long count should not end in its absence

        from socrates.report.html import check_page
        from socrates.report.inspection import PROGRAM, default_page

        page = default_page(arguments.file) if arguments.report == PAGE_HERE else arguments.report
        check_page(page, (), PROGRAM, "--report")
    from socrates.data.convert.rows import converted

    with converted(arguments.file, arguments.columns) as rows:
        found = inspect_file(rows, **(tokens_of(arguments.config) if arguments.config else {}))
    found.record["file"]["path"] = str(arguments.file).encode(errors="replace").decode()
    if arguments.json:
        import json

        print(json.dumps(found.record, allow_nan=False, indent=2), flush=True)
    else:
        from socrates.report.inspection import inspection_text

        print(inspection_text(found), flush=True)
    if arguments.report is not None:
        from datetime import datetime

        from socrates.files import atomic_write
        from socrates.report.inspection import page as page_html

        with atomic_write(page) as file:
            file.write(page_html(found, datetime.now().astimezone()))
        print(f"Report: {page}", file=sys.stderr if arguments.json else sys.stdout, flush=True)
    if not (bad_rows := found.record["bad_rows"]):
        return EXIT_DONE
    file, first = found.record["file"], bad_rows[0]
    rows = "1 bad row" if len(bad_rows) == 1 else f"{file['bad_rows']} bad rows; the first"
    print(escaped(f"{rows}: {file['path']}, line {first['line']}: {first['reason']}"), file=sys.stderr)
    return EXIT_NO


def tokens_of(path: str) -> dict:
    """What `inspect_file` needs to count tokens as training with a config would."""
    from socrates.config import load_config
    from socrates.data.encode import PromptEncoder
    from socrates.model.load import load_tokenizer, quiet_libraries

    config = load_config(path)
    quiet_libraries()
    encoder = PromptEncoder(load_tokenizer(config.model_name, config.model_revision), config.prompt)
    return {"encoder": encoder, "max_length": config.training.max_length}


if __name__ == "__main__":
    run_entry_point(main)
