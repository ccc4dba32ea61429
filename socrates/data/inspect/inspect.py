"""Inspection of a data file of human answers, shard by shard: counts and columns that add up (`Found`).

Covers: files of any size in either layout; a row leaves 48 bytes behind (64-bit hashes and numbers, in NumPy arrays),
whatever its texts; all else that is kept grows with the cells, the scales and the demographic values that occur. The
same file gives the same inspection whatever the number of processes and the size of the shards.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from socrates.console import progress
from socrates.data.encode import BYTES_A_TOKEN
from socrates.data.inspect.lines import Shard, byte_ranges, read_lines
from socrates.data.inspect.record import Inspection
from socrates.data.inspect.summary import summarise
from socrates.data.prepare.lines import LISTED, prompt_hash, to_answer
from socrates.data.prepare.sources import BadRow, parse_line
from socrates.data.records import Answer, Cell
from socrates.data.scales import Scale
from socrates.data.scales.text import read_scale
from socrates.errors import SocratesError
from socrates.files import file_identity
from socrates.parallel import map_in_order

if TYPE_CHECKING:
    from socrates.data.encode import PromptEncoder

SHARD_BYTES = 8 * 2**20
MOST_VALUES = 10_000  # of a demographic field; of one that has more, only that is kept
COLUMNS = {
    "line": np.uint64,  # hash of the line's bytes
    "prompt": np.uint64,  # hash
    "stimuli": np.uint64,  # hash
    "person": np.uint64,  # hash of study and participant; 0 where the row names no participant
    "response": np.int64,
    "cell": np.int32,  # index
    "scale": np.int32,  # index; -1 where the text states none
}
_ENDING = 120  # characters of a text without a scale that are shown


def inspect_file(
    path: Path | str,
    *,
    processes: int | None = None,
    encoder: PromptEncoder | None = None,
    tokenizer: str | None = None,
    max_length: int | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Inspection:
    """Count what is in a JSONL file.

    Args:
        path: of the file.
        processes: that read, at most (default: one a core, at most 8).
        encoder: to count tokens with.
        tokenizer: what the encoder's is called.
        max_length: tokens that a row may have in training.
        shard_bytes: about this much is read at a time by a process.

    Raises:
        SocratesError: no such file, a folder, a file that cannot be read or holds no usable row, or one that
            changes meanwhile.
    """
    path = Path(path)
    check_file(path)
    shards = byte_ranges(path, shard_bytes)
    before = file_identity(path)
    results = map_in_order(partial(inspect_shard, encoder=encoder), shards, processes)
    found = merge(progress(results, "inspecting", total=len(shards), unit=" shards"))
    if not path.is_file() or file_identity(path) != before:
        raise SocratesError(f"{path}: was changed while it was read; run the same command again")
    if not len(found.columns["cell"]):
        raise SocratesError(_no_rows(path, found))
    return summarise(path, found, tokenizer if encoder else None, max_length)


def check_file(path: Path) -> None:
    """SocratesError, with what to name instead, unless there is a file that may hold JSONL."""
    if path.is_dir():
        files = sorted(file.name for file in path.glob("*.jsonl"))
        choice = f"; choose one of its files: {', '.join(files)}" if files else ", and holds no .jsonl file"
        raise SocratesError(f"{path}: is a folder{choice}")
    if not path.exists():
        raise SocratesError(f"{path}: no such data file")
    if not path.is_file():
        raise SocratesError(f"{path}: is no ordinary file; write its rows into one, since several processes read it")
    if path.suffix == ".parquet":
        raise SocratesError(
            f"{path}: is a parquet file; scripts/prepare_data.py --source {path} makes JSONL files of it, which can be "
            "inspected"
        )


def _no_rows(path: Path, found: Found) -> str:
    if not found.bad:
        return f"{path}: holds no rows; expected one JSON object a line"
    line, reason = found.first_bad[0]
    return f"{path}: none of its {found.bad} rows can be used; line {line}: {reason}"


_NESTED = frozenset({dict, list})
_INT64 = np.iinfo(np.int64)


class Stated(NamedTuple):
    """A scale in a form that stays small: the runs of its values, as (first, last), both valid answers."""

    runs: tuple[tuple[int, int], ...]


class Wording(NamedTuple):
    """A scale and the form in which a text states it (see `scales.read_scale`)."""

    scale: Stated
    form: str


@dataclass
class Found:
    """What a shard holds.

    Attributes:
        lines: of the shard, empty ones too.
        bad: rows that cannot be used, and ``first_bad`` of them as (line in the shard from 1, reason).
        layouts: rows of each, "published" or "instruction".
        columns: one entry a good row, see `COLUMNS`.
        cells, scales: what the columns "cell" and "scale" count from 0.
        demographics: by field, rows of each known value; None in place of more than `MOST_VALUES` of them.
        known: by field, rows in which it is known; a field that is there and never known has 0.
        characters: prompts of each length. tokens: rows of each length, prompt, answer and end together.
        unscaled: by study, the first row without a scale as (line in the shard, how its text ends).
    """

    lines: int = 0
    bad: int = 0
    first_bad: list[tuple[int, str]] = field(default_factory=list)
    layouts: Counter[str] = field(default_factory=Counter)
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    scales: list[Wording] = field(default_factory=list)
    demographics: dict[str, Counter[str] | None] = field(default_factory=dict)
    known: Counter[str] = field(default_factory=Counter)
    characters: Counter[int] = field(default_factory=Counter)
    tokens: Counter[int] = field(default_factory=Counter)
    unscaled: dict[str, tuple[int, str]] = field(default_factory=dict)


def inspect_shard(shard: Shard, encoder: PromptEncoder | None = None) -> Found:
    """What a shard of a JSONL file holds.

    Args:
        shard: of the file.
        encoder: of the prompts; without one no tokens are counted.
    """
    found = Found()
    values: dict[str, list[int]] = {name: [] for name in COLUMNS}
    cells: dict[Cell, int] = {}
    scales: dict[Wording, int] = {}
    fields: dict[str, Counter[str]] = {}
    prompts: list[str] = []
    for number, line in enumerate(read_lines(shard), start=1):
        found.lines = number
        if not line.strip():
            continue
        try:
            answer, layout = _read(line)
        except BadRow as error:
            found.bad += 1
            if len(found.first_bad) < LISTED:
                found.first_bad.append((number, str(error)))
            continue
        found.layouts[layout] += 1
        stimuli, wording = _look_at_stimuli(answer.stimuli)
        if wording is None:
            found.unscaled.setdefault(answer.cell.study_id, (number, " ".join(answer.stimuli[-_ENDING:].split())))
        values["line"].append(_hash(line.strip()))
        values["prompt"].append(prompt_hash(answer.prompt))
        values["stimuli"].append(stimuli)
        values["person"].append(_person(answer))
        values["response"].append(min(max(answer.response, _INT64.min), _INT64.max))
        values["cell"].append(cells.setdefault(answer.cell, len(cells)))
        values["scale"].append(-1 if wording is None else scales.setdefault(wording, len(scales)))
        found.characters[len(answer.prompt)] += 1
        _count_demographic(fields, answer.demographic)
        if encoder is not None:
            prompts.append(answer.prompt)
    found.columns = {name: np.array(values[name], kind) for name, kind in COLUMNS.items()}
    found.cells, found.scales = list(cells), list(scales)
    found.known.update({name: counts.total() for name, counts in fields.items()})
    found.demographics = {name: c if len(c) <= MOST_VALUES else None for name, c in fields.items()}
    if encoder is not None:
        found.tokens = _count_tokens(prompts, values["response"], encoder)
    return found


def merge(shards: Iterable[Found]) -> Found:
    """All shards as one, in their order: line numbers, cells and scales count through the file."""
    total = Found()
    columns: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS}
    cells: dict[Cell, int] = {}
    scales: dict[Wording, int] = {}
    crowded: set[str] = set()
    for shard in shards:
        for name, values in shard.columns.items():
            columns[name].append(values)
        for name, known, table in (("cell", cells, shard.cells), ("scale", scales, shard.scales)):
            index = np.array([*(known.setdefault(item, len(known)) for item in table), -1], np.int32)
            columns[name][-1] = index[columns[name][-1]]  # -1 is the last entry: it stays -1
        for line, reason in shard.first_bad[: LISTED - len(total.first_bad)]:
            total.first_bad.append((total.lines + line, reason))
        for study, (line, ends) in shard.unscaled.items():
            total.unscaled.setdefault(study, (total.lines + line, ends))
        for name, counts in shard.demographics.items():
            mine = total.demographics.setdefault(name, Counter())
            if counts is None or len(mine := mine + counts) > MOST_VALUES:
                crowded.add(name)
                mine = Counter()
            total.demographics[name] = mine
        total.lines += shard.lines
        total.bad += shard.bad
        total.layouts += shard.layouts
        total.known.update(shard.known)
        total.characters.update(shard.characters)
        total.tokens.update(shard.tokens)
    total.demographics.update(dict.fromkeys(crowded))
    total.columns = {name: np.concatenate(columns.pop(name) or [np.zeros(0, COLUMNS[name])]) for name in COLUMNS}
    total.cells, total.scales = list(cells), list(scales)
    return total


def stated(scale: Scale) -> Stated:
    """A scale as runs of values: one, but for listed options with a gap ("1 for Yes, 2 for No, 9 for Other")."""
    if len(scale) == scale.high - scale.low + 1:
        return Stated(((scale.low, scale.high),))
    values = np.array(scale.values)
    runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return Stated(tuple((int(run[0]), int(run[-1])) for run in runs))


def _read(line: bytes) -> tuple[Answer, str]:
    row = parse_line(line)
    if isinstance(row, dict) and (b"\\ud" in line or b"\\uD" in line):
        _check_characters(row)
    answer = to_answer(row)
    if not _NESTED.isdisjoint(map(type, answer.demographic.values())):
        name, value = next(item for item in answer.demographic.items() if type(item[1]) in _NESTED)
        raise BadRow(f'"demographic": "{name}" must be a text or a number, not {type(value).__name__}')
    return answer, "instruction" if "output" in row and "response" not in row else "published"


def _check_characters(row: dict[str, Any]) -> None:
    """BadRow for half a character: it can be written as an escape in JSON, and nowhere else."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BadRow("holds half a character (\\ud800 to \\udfff)") from error


@lru_cache(maxsize=8192)  # hundreds of people read the same text
def _look_at_stimuli(text: str) -> tuple[int, Wording | None]:
    scale, form = read_scale(text)
    return prompt_hash(text), None if scale is None else Wording(stated(scale), form)


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _person(answer: Answer) -> int:
    if answer.participant is None:
        return 0
    return prompt_hash(f"{answer.cell.study_id}\n{answer.participant}") or 1


def _count_demographic(fields: dict[str, Counter[str]], demographic: Mapping[str, Any]) -> None:
    for name, value in demographic.items():
        counts = fields.get(name)
        if counts is None:
            counts = fields[name] = Counter()
        if type(value) is str:
            if value:
                counts[value] += 1
        elif value is not None and value == value:  # NaN: as some converters write null
            counts[str(int(value) if isinstance(value, float) and value.is_integer() else value)] += 1


def _count_tokens(prompts: list[str], responses: list[int], encoder: PromptEncoder) -> Counter[int]:
    """Rows of each length in tokens, as a training row has it: prompt, answer, end of the turn."""
    answers = {value: len(encoder.encode_answer(value)) // BYTES_A_TOKEN for value in set(responses)}
    ids = encoder.encode(prompts)
    return Counter(len(x) // BYTES_A_TOKEN + answers[y] for x, y in zip(ids, responses, strict=True))
