"""Preflight of the data: there, unchanged since it was prepared; and how much of it a step takes.

Covers: the data file is read once for its digest, which is then remembered beside it, and never again. Does not cover:
whether its rows can be read, which making tokens of them shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from socrates.config import RunConfig
from socrates.data.dataset import METADATA, sha256_of_part
from socrates.data.tokenized import INFO
from socrates.errors import SocratesError
from socrates.files import read_json, whole_number
from socrates.machine.preflight.checks import FAIL, PASS, WARN, Check, gib

_BYTES_A_TOKEN = 4  # of English text, about; and of the tokenized set
_LOOKED_AT = 4 * 2**20  # bytes, for the mean length of a row


@dataclass(frozen=True)
class DataState:
    """What is known of a run's training rows; None where it is not."""

    steps: int | None  # optimizer steps of the run
    tokens_a_row: float | None  # about
    to_come: int  # bytes of the tokenized set, about; 0 where there is one


def check_data_files(config: RunConfig) -> Iterator[Check]:
    """The files to train and to evaluate on are there, not empty, and those that the set's metadata describe."""
    watches = config.training.eval_steps is not None  # it reads the evaluation rows, too
    for file, needed in ((config.train_file, True), (config.evaluation_file, watches)):
        remedy = f"tnr scp 0 {config.dataset_path}/ ~/socrates-training/{config.dataset_path}/"
        if not file.is_file() or not file.stat().st_size:
            state = "is empty" if file.is_file() else "is not there"
            yield Check("data", FAIL if needed else WARN, f"{file} {state}", remedy)
            continue
        try:
            sha256_of_part(file)  # remembered beside the file: a training then starts at once
        except SocratesError as error:
            yield Check("data", FAIL, str(error), remedy)
        else:
            yield Check("data", PASS, f"{file}: {gib(file.stat().st_size)}")


def inspect_data(config: RunConfig) -> tuple[list[Check], DataState]:
    """All checks of a run's data, and what the other checks need to know of it.

    Raises:
        SocratesError: metadata.json is malformed.
    """
    checks, folder = list(check_data_files(config)), Path(config.dataset_path)
    if checks[0].outcome == FAIL:
        return checks, DataState(config.training.max_steps, None, 0)
    metadata = folder / METADATA
    counts = read_json(metadata, "data set's metadata").get("rows") if metadata.is_file() else None
    rows = whole_number(counts.get("train")) if isinstance(counts, dict) else None
    if rows is None:
        with config.train_file.open("rb") as file:
            rows = sum(1 for _ in file)
    tokens = _tokens_a_row(config.train_file)
    tokenized = any(folder.glob(f"tokenized-*/{INFO}"))
    to_come = 0 if tokenized else int(rows * tokens * _BYTES_A_TOKEN)
    return checks, DataState(config.planned_steps(rows), tokens, to_come)


def _tokens_a_row(path: Path) -> float:
    """About: the mean bytes of its prompts, over four; from the beginning of the file."""
    with path.open("rb") as file:
        lines = file.read(_LOOKED_AT).splitlines()
    lengths = []
    for line in lines[:-1] or lines:  # the last is cut off
        try:
            lengths.append(len(json.loads(line)["prompt"].encode()))
        except (ValueError, KeyError, TypeError, AttributeError):  # preparation reads rows; this only guesses
            lengths.append(len(line))
    return sum(lengths) / max(len(lengths), 1) / _BYTES_A_TOKEN
