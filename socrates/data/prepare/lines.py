"""The pass over a source: every row that is in the split becomes a line of one file, in the source's order.

Where a line belongs is decided once all are known; of each line only its group (its cell, or the person) and a hash of
its prompt are kept.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from socrates.console import progress
from socrates.data.prepare.sources import Source, read_rows
from socrates.data.prepare.splits import Group, Split, group_of, unit_of
from socrates.data.records import Answer, BadRow, Cell, parse_answer, parse_line, stimuli_of
from socrates.errors import SocratesError
from socrates.files import unique_keys

LISTED = 20  # bad rows that are named; all are counted
_SCALARS = frozenset({str, int, float, bool})
# The row of a line, in which no key stands twice; NaN, as some converters write null, is let through.
parse_published = partial(parse_line, decoder=json.JSONDecoder(object_pairs_hook=unique_keys))
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode  # made once: json.dumps makes one a call


@dataclass
class Lines:
    """What the pass over the source has written, in its order, and what it has left out.

    Attributes:
        groups: a number for each, in the order of their first lines.
        group: of each line, the number of its group.
        prompt: of each line, the hash of its prompt.
        left_out: {reason: {study or unit: rows}}.
        bad: rows that cannot be used.
        first_bad: some of them, as `metadata.json` names them.
    """

    groups: dict[Group, int] = field(default_factory=dict)
    group: array = field(default_factory=lambda: array("i"))  # as a list: ten times the memory
    prompt: array = field(default_factory=lambda: array("Q"))
    left_out: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    bad: int = 0
    first_bad: list[dict[str, Any]] = field(default_factory=list)


def write_lines(path: Path, source: Source, by: str, split: Split | None, max_bad_rows: int) -> Lines:
    """The pass; SocratesError, which names the first bad rows, where there are more than allowed.

    ``by``: what the units of the split are; ``split``: of published lists, which may lack rows; None takes all rows.
    """
    lines = Lines()
    with path.open("wb") as out:
        for file, number, row in progress(read_rows(source, max_bad_rows), "reading"):
            try:
                answer = to_answer(row)
                group = group_of(answer, by)
                if split is not None and split.side(group) is None:
                    _leave_out(lines, answer.cell, by)
                    continue
                out.write(to_line(answer))
            except BadRow as error:
                lines.bad += 1
                if lines.bad <= LISTED:
                    name = file.relative_to(source.folder).as_posix()
                    lines.first_bad.append({"file": name, source.unit: number, "reason": str(error)})
                continue
            lines.group.append(lines.groups.setdefault(group, len(lines.groups)))
            lines.prompt.append(prompt_hash(answer.prompt))
    if lines.bad > max_bad_rows:
        unit = source.unit
        shown = [f"{source.folder / bad['file']}, {unit} {bad[unit]}: {bad['reason']}" for bad in lines.first_bad]
        more = [f"… and {lines.bad - LISTED:,} more"] if lines.bad > LISTED else []
        remedy = "put the source right, or leave bad rows out with --max-bad-rows N"
        counted = f"{lines.bad} bad row{'s' * (lines.bad != 1)}, {max_bad_rows} allowed: {remedy}"
        raise SocratesError("\n  ".join([*shown, *more, counted]))
    return lines


def _leave_out(lines: Lines, cell: Cell, split: str) -> None:
    """Count a row that is in no published list; those of the study split name every study: there it is a mistake."""
    if split == "study":
        raise BadRow(f'study "{cell.study_id}" is in neither published list (seen, unseen)')
    lines.left_out[f"{split} in no list"]["/".join(map(str, unit_of(cell, split)))] += 1


def to_answer(row: Mapping[str, Any] | bytes, number: int = 0) -> Answer:
    """A row, or a line of JSON, as an answer; BadRow, with the reason alone, for one that cannot be used."""
    try:
        return parse_answer(parse_published(row) if isinstance(row, bytes) else row, "", number)
    except BadRow:
        raise
    except SocratesError as error:
        raise BadRow(str(error).removeprefix(f", line {number}: ")) from error
    except (ValueError, OverflowError) as error:
        raise BadRow(f"cannot be read: {error}") from error


def to_line(answer: Answer) -> bytes:
    """An answer as a line of a prepared set, in the published layout.

    Demographic fields that are null, or NaN (as some converters write null), are left out; so is `stimuli` where the
    prompt tells it, which is two fifths of the bytes.

    Raises:
        BadRow: a demographic field is neither a text nor a number, or cannot be written as JSON in UTF-8.
    """
    demographic = {name: value for name, value in answer.demographic.items() if value is not None and value == value}
    for name, value in demographic.items():
        if type(value) not in _SCALARS:
            raise BadRow(f'"demographic": "{name}" must be a text or a number, not {type(value).__name__}')
    row = {"prompt": answer.prompt, "response": answer.response, **answer.keys(), "demographic": demographic}
    row |= answer.own.as_row()
    del row["line"]
    if answer.response is None:
        del row["response"]
    if stimuli_of(answer.prompt) != answer.stimuli:
        row["stimuli"] = answer.stimuli
    try:
        return _encode(row).encode() + b"\n"
    except UnicodeEncodeError as error:
        raise BadRow('"demographic" holds half a character (\\ud800 to \\udfff)') from error
    except ValueError as error:  # a number that is infinite
        raise BadRow(f"cannot be written as JSON: {error}") from error


def prompt_hash(prompt: str) -> int:
    """64 bits of BLAKE2b over a prompt: among 3 million prompts two get the same one by chance once in 4 million."""
    return int.from_bytes(hashlib.blake2b(prompt.encode(), digest_size=8).digest(), "little")
