"""What a file is that should hold rows of the published layout and does not, and what makes such rows of it."""

from __future__ import annotations

import codecs
import json
import re
from contextlib import suppress
from pathlib import Path

_ROW = """
  {"study_id": "tax", "condition_num": 0, "task_num": 1, "participant": 17, "response": 5, "scale": "1 to 7",
   "demographic": {"age": 34, "gender": "Female"},
   "stimuli": "You were asked: “How fair is the tax?” Only return an integer from 1 to 7, nothing else."}"""
_STARTS = {
    **{b"PK\x03\x04": "an Excel file", b"PAR1": "a parquet file", b"$FL2": "an SPSS file", b"$FL3": "an SPSS file"},
    **{b"<stata_dta>": "a Stata file", b"[": "a JSON array"},
    **dict.fromkeys((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "UTF-16 text"),
}
_OURS = {"study_id", "response", "output", "key"}  # every JSONL file of this project has one of them


def other_format(path: Path | str, head: bytes) -> str | None:
    """Why a file is none of this project's JSONL, by its first thousands of bytes, and what to do; None: it may be."""
    head = head.removeprefix(codecs.BOM_UTF8).lstrip()
    found = next((what for start, what in _STARTS.items() if head.startswith(start)), None)
    first = head.split(b"\n")[0]
    if found is None and head[:1] in b"{":
        with suppress(ValueError, RecursionError):
            keys = json.loads(first).keys()
            found = f"JSONL with other keys ({', '.join(keys)})" if keys and keys.isdisjoint(_OURS) else None
    elif found is None and re.search(rb"[^,;\t|][,;\t|]", first):
        found = "a table as text (CSV)"
    return found and wanted(path, found)


def wanted(path: Path | str, found: str) -> str:
    """The message for a file that must be converted first; ``found`` says what it is."""
    command = f"python scripts/convert_data.py {path} --columns columns.json"
    return (
        f"{path}: is {found}; expected rows of the published layout, one a line, such as (there in one line){_ROW}\n"
        f"convert it, once the first command has written a columns.json and you have corrected it:\n"
        f"  {command} --guess\n  {command} --output rows.jsonl"
    )
