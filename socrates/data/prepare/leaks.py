"""Leak check: nothing of training is in evaluation, proved over the written files themselves.

Covers: no unit of the split (study; condition of a study; question of a study) in two parts, no prompt text of `val`
or `test` in `train`, as many lines as the metadata says, and the files that it describes.
Does not cover: stimuli that are alike but not equal, and people who answered in several studies (the data set numbers
people within a study).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from socrates.data.dataset import METADATA, PARTS, check_hash, part_file, read_metadata
from socrates.data.prepare.shards import prompt_hash
from socrates.data.prepare.sources import Shard, Unreadable, byte_ranges, parse_line, read_lines
from socrates.data.prepare.splits import MAPPINGS, Unit, show_unit, unit_of
from socrates.data.records import Cell, read_cell
from socrates.errors import SocratesError
from socrates.files import sha256_file
from socrates.parallel import map_in_order


@dataclass(frozen=True)
class LeakReport:
    """What was counted in the files of a prepared set; that it exists says that nothing leaks.

    Attributes:
        split: "study", "condition" or "task".
        unit: what no two parts share, in words.
        rows, units, studies, cells, prompts: by part; prompts are distinct texts.
        shared_units: in two parts or more; 0.
        shared_prompts: by pair of parts; 0 between `train` and the others. A prompt in both `val` and `test` (the same
            persona and text in two studies) is no leak of training.
        sha256: by part.
    """

    split: str
    unit: str
    rows: Mapping[str, int]
    units: Mapping[str, int]
    studies: Mapping[str, int]
    cells: Mapping[str, int]
    prompts: Mapping[str, int]
    shared_units: int
    shared_prompts: Mapping[str, int]
    sha256: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Found:
    """What one shard of a part holds."""

    rows: int
    cells: Mapping[Cell, int]
    prompts: np.ndarray  # 64-bit hashes


def check_prepared(folder: Path | str, processes: int | None = None) -> LeakReport:
    """Prove, from its files, that nothing leaks between the parts of a prepared set.

    Args:
        folder: of the set, with its `metadata.json`.
        processes: at most.

    Raises:
        SocratesError: the first leak or disagreement found; names the study, the prompt (file and lines) or the file.
    """
    folder = Path(folder)
    if not (folder / METADATA).is_file():
        raise SocratesError(f"{folder}: no prepared set is there, since it holds no {METADATA}; prepare the data first")
    metadata = read_metadata(folder)
    report = prove_no_leak(folder, metadata.get("split"), metadata["rows"], processes)
    for part, found in report.sha256.items():
        check_hash(part_file(folder, part), found, metadata["sha256"][part])
    return report


def prove_no_leak(folder: Path, split: str, rows: Mapping[str, int], processes: int | None = None) -> LeakReport:
    """As `check_prepared`, for parts whose counts are known and whose metadata is not written yet."""
    if split not in MAPPINGS:
        raise SocratesError(f'{folder}: "split" must be one of {", ".join(MAPPINGS)}, not {split!r}')
    if "train" not in rows or len(rows) < 2 or not set(PARTS).issuperset(rows):
        raise SocratesError(f"{folder}: must have train and val or test for a leak to be looked for, not {list(rows)}")
    files = {part: part_file(folder, part) for part in rows}
    for file in files.values():
        if not file.is_file():
            raise SocratesError(f"{file}: no such data file; prepare the data again")
    found = _look(files, processes)
    units = {part: {unit_of(cell, split) for cell in one.cells} for part, one in found.items()}
    for one, other in combinations(files, 2):
        if both := sorted(units[one] & units[other], key=str):
            raise SocratesError(_shared_unit(both, split, files[one], files[other]))
    prompts = {part: np.unique(one.prompts) for part, one in found.items()}
    shared = {f"{a}-{b}": np.intersect1d(prompts[a], prompts[b], assume_unique=True) for a, b in combinations(files, 2)}
    for pair, hashes in shared.items():
        if pair.startswith("train-") and len(hashes):
            _check_prompts(hashes, files["train"], files[pair.removeprefix("train-")])
    for part, one in found.items():
        if one.rows != rows[part]:
            raise SocratesError(f"{files[part]}: holds {one.rows} rows, {METADATA} says {rows[part]}; prepare it again")
    return LeakReport(
        split=split,
        unit="study" if split == "study" else f"{split} of a study",
        rows={part: one.rows for part, one in found.items()},
        units={part: len(names) for part, names in units.items()},
        studies={part: len({cell.study_id for cell in one.cells}) for part, one in found.items()},
        cells={part: len(one.cells) for part, one in found.items()},
        prompts={part: len(hashes) for part, hashes in prompts.items()},
        shared_units=0,
        shared_prompts={p: 0 if p.startswith("train-") else len(hashes) for p, hashes in shared.items()},
        sha256=dict(zip(files, map_in_order(sha256_file, list(files.values()), processes), strict=True)),
    )


def _look(files: Mapping[str, Path], processes: int | None) -> dict[str, _Found]:
    shards = [(part, shard) for part, file in files.items() for shard in byte_ranges(file)]
    cells: dict[str, Counter[Cell]] = {part: Counter() for part in files}
    prompts: dict[str, list[np.ndarray]] = {part: [] for part in files}
    for (part, _), one in zip(shards, map_in_order(_look_at, [p for _, p in shards], processes), strict=True):
        cells[part].update(one.cells)
        prompts[part].append(one.prompts)
    arrays = {part: np.concatenate(many) if many else np.array([], np.uint64) for part, many in prompts.items()}
    return {part: _Found(len(arrays[part]), cells[part], arrays[part]) for part in files}


def _look_at(shard: Shard) -> _Found:
    cells: Counter[Cell] = Counter()
    hashes: list[int] = []
    for line in read_lines(shard):
        cell, prompt = _keys(line, shard.path)
        cells[cell] += 1
        hashes.append(prompt_hash(prompt))
    return _Found(len(hashes), dict(cells), np.array(hashes, np.uint64))


def _keys(line: bytes, path: Path) -> tuple[Cell, str]:
    row = parse_line(line)
    if isinstance(row, Unreadable) or not isinstance(row.get("prompt"), str):
        reason = row.reason if isinstance(row, Unreadable) else 'no "prompt"'
        number = next(n for n, other in _numbered(path) if other == line)
        raise SocratesError(f"{path}, line {number}: {reason}; prepare the data again")
    return read_cell(row, str(path), row["prompt"]), row["prompt"]


def _shared_unit(both: list[Unit], split: str, one: Path, other: Path) -> str:
    lines = [
        next(n for n, row in _numbered(file) if unit_of(_keys(row, file)[0], split) == both[0]) for file in (one, other)
    ]
    more = f" (and {len(both) - 1} more)" if len(both) > 1 else ""
    return (
        f"leak: {show_unit(both[0], split)}{more} is in {one} (line {lines[0]}) and in {other} (line {lines[1]}); "
        "prepare the data again"
    )


def _check_prompts(hashes: np.ndarray, train: Path, evaluation: Path) -> None:
    """SocratesError if prompts with these hashes are the same texts, and not only the same hashes."""
    wanted = set(hashes[:1000].tolist())
    seen: dict[int, tuple[int, str]] = {}
    for number, line in _numbered(evaluation):
        prompt = _keys(line, evaluation)[1]
        if (key := prompt_hash(prompt)) in wanted:
            seen.setdefault(key, (number, prompt))
    for number, line in _numbered(train):
        prompt = _keys(line, train)[1]
        key = prompt_hash(prompt)
        if key in seen and seen[key][1] == prompt:
            more = f" (and {len(hashes) - 1} more)" if len(hashes) > 1 else ""
            raise SocratesError(
                f"leak: the prompt of {evaluation}, line {seen[key][0]} is in {train}, line {number} too{more}; "
                f"it ends: …{prompt[-60:]!r}; prepare the data again"
            )


def _numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        yield from enumerate(file, start=1)
