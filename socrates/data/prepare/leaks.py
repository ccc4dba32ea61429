"""Leak check: nothing of training is in evaluation, proved over the written files themselves.

Covers: no unit of the split (study; condition, question or participant of a study) in two parts, no prompt text of
`val` or `test` in `train`, as many lines as the metadata says, and the files that it describes. By person the parts may
share prompts: people without demographics read the same text.
Does not cover: stimuli that are alike but not equal, and people who answered in several studies (the data set numbers
people within a study).
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from socrates.console import progress
from socrates.data.dataset import METADATA, PARTS, ScalePriors, check_hash, part_file, read_metadata, split_of
from socrates.data.prepare.lines import prompt_hash
from socrates.data.prepare.splits import BY, MAPPINGS, PERSON, Unit, group_of, show_unit, unit_of
from socrates.data.records import BadRow, Cell, read_answers
from socrates.data.scales import Scale
from socrates.errors import SocratesError
from socrates.files import sha256_file


class _Part(NamedTuple):
    """What a part holds."""

    rows: int
    cells: Mapping[Cell, int]  # the first line of each
    units: Mapping[Unit, int]  # likewise
    prompts: np.ndarray  # 64-bit hashes, ascending, each once
    priors: ScalePriors


def check_prepared(folder: Path | str) -> dict[str, Any]:
    """Prove, from its files, that nothing leaks between the parts of a prepared set.

    Returns:
        As `prove_no_leak`.

    Raises:
        SocratesError: the first leak or disagreement found; names the study, the prompt (file and lines) or the file.
    """
    folder = Path(folder)
    if not (folder / METADATA).is_file():
        raise SocratesError(f"{folder}: no prepared set is there, since it holds no {METADATA}; prepare the data first")
    metadata = read_metadata(folder)
    found = prove_no_leak(folder, split_of(metadata)[1], metadata["rows"])
    for part, digest in found["sha256"].items():
        check_hash(part_file(folder, part), digest, metadata["sha256"][part])
    return found


def prove_no_leak(folder: Path, by: str, rows: Mapping[str, int]) -> dict[str, Any]:
    """As `check_prepared`, for parts whose counts are known and whose metadata is not written yet.

    ``by``: what the units are: a value of `splits.BY`.

    Returns:
        "rows", "sha256", "counts" (by part), "no_leak" and "scale_priors" (of `train`), as `metadata.json` holds
        them. A prompt in both `val` and `test` (the same persona and text in two studies) is counted there, and is no
        leak of training; nor is, by person, a prompt in `train` and another part.
    """
    if by not in BY.values():
        kinds = ", ".join(MAPPINGS)
        raise SocratesError(f'{folder}: "split" must be one of {kinds}, or own with a known "by", not {by!r}')
    if "train" not in rows or len(rows) < 2 or not set(PARTS).issuperset(rows):
        raise SocratesError(f"{folder}: must have train and val or test for a leak to be looked for, not {list(rows)}")
    files = {part: part_file(folder, part) for part in PARTS if part in rows}
    found = {part: _read(file, by, rows[part]) for part, file in files.items()}
    shared_prompts: dict[str, int] = {}
    for one, other in combinations(files, 2):
        _check_units(found[one].units, found[other].units, by, files[one], files[other])
        hashes = np.intersect1d(found[one].prompts, found[other].prompts, assume_unique=True)
        must_differ = one == "train" and by != PERSON
        if must_differ and len(hashes):
            _check_prompts(hashes, files[one], files[other])
        shared_prompts[f"{one}-{other}"] = 0 if must_differ else len(hashes)
    for part, one in found.items():
        if one.rows != rows[part]:
            raise SocratesError(f"{files[part]}: holds {one.rows} rows, {METADATA} says {rows[part]}; prepare it again")
    return {
        "rows": {part: one.rows for part, one in found.items()},
        "sha256": {part: sha256_file(file) for part, file in files.items()},
        "counts": {
            "studies": {part: len({cell.study_id for cell in one.cells}) for part, one in found.items()},
            "units": {part: len(one.units) for part, one in found.items()},
            "cells": {part: len(one.cells) for part, one in found.items()},
            "prompts": {part: len(one.prompts) for part, one in found.items()},
        },
        "no_leak": {
            "unit": {"study": "study", PERSON: "participant of a study"}.get(by, f"{by} of a study"),
            "shared_prompts": shared_prompts,
        },
        "scale_priors": found["train"].priors,
    }


def _read(file: Path, by: str, rows: int) -> _Part:
    cells: dict[Cell, int] = {}
    units: dict[Unit, int] = {}
    scales: dict[Cell, Scale | None] = {}
    answers: defaultdict[Cell, Counter[float]] = defaultdict(Counter)
    hashes = array("Q")  # as a list: ten times the memory
    for answer in progress(read_answers(file), f"checking {file.name}", total=rows):
        if answer.cell not in cells:
            cells[answer.cell], scales[answer.cell] = answer.line, answer.stated[0]
        try:
            units.setdefault(unit_of(group_of(answer, by), by), answer.line)
        except BadRow as error:
            raise SocratesError(f"{file}, line {answer.line}: {error}; prepare the data again") from error
        for given, people in answer.counts.items():
            answers[answer.cell][given] += people * answer.own.weight
        hashes.append(prompt_hash(answer.prompt))
    return _Part(len(hashes), cells, units, np.unique(np.array(hashes)), _scale_priors(answers, scales))


def _scale_priors(answers: Mapping[Cell, Counter[float]], scales: Mapping[Cell, Scale | None]) -> ScalePriors:
    """Of each scale the mean over questions of how its people answer, all conditions together."""
    questions: defaultdict[tuple[str, str, int | str], Counter[float]] = defaultdict(Counter)
    for cell, scale in scales.items():
        if scale is not None:
            valid = {answer: count for answer, count in answers[cell].items() if answer in scale}
            questions[str(scale), cell.study_id, cell.task_num].update(valid)
    shares: defaultdict[str, list[dict[float, float]]] = defaultdict(list)
    for (scale, *_), counts in questions.items():
        if total := counts.total():
            shares[scale].append({answer: count / total for answer, count in counts.items()})
    return {
        scale: {
            str(answer): float(f"{sum(one.get(answer, 0.0) for one in given) / len(given):.6g}")
            for answer in sorted(set().union(*given))
        }
        for scale, given in sorted(shares.items())
    }


def _check_units(ones: Mapping[Unit, int], others: Mapping[Unit, int], by: str, one: Path, other: Path) -> None:
    """SocratesError if a unit is in two files; their units are given with the first line of each."""
    if both := sorted(ones.keys() & others.keys(), key=str):
        first = both[0]
        more = f" (and {len(both) - 1} more)" if len(both) > 1 else ""
        raise SocratesError(
            f"leak: {show_unit(first, by)}{more} is in {one} (line {ones[first]}) and in {other} (line "
            f"{others[first]}); prepare the data again"
        )


def _check_prompts(hashes: np.ndarray, train: Path, evaluation: Path) -> None:
    """SocratesError if prompts with these hashes are the same texts, and not only the same hashes."""
    wanted = set(hashes[:1000].tolist())
    lines: dict[str, int] = {}
    for answer in read_answers(evaluation):
        if prompt_hash(answer.prompt) in wanted:
            lines.setdefault(answer.prompt, answer.line)
    for answer in read_answers(train):
        if answer.prompt in lines:
            more = f" (and {len(hashes) - 1} more)" if len(hashes) > 1 else ""
            raise SocratesError(
                f"leak: the prompt of {evaluation}, line {lines[answer.prompt]} is in {train}, line {answer.line} "
                f"too{more}; it ends: …{answer.prompt[-60:]!r}; prepare the data again"
            )
