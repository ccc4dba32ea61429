"""Preflight of the data: there, unchanged since it was prepared, tokenized; and how much of it a step takes.

Covers: the data file is read once for its digest, which is then remembered beside it, and never again. Does not cover:
whether its rows can be read, which making tokens of them shows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from socrates.config import RunConfig
from socrates.data.dataset import METADATA, sha256_of_part
from socrates.data.tokenized import read_info, tokenized_fingerprint
from socrates.errors import SocratesError
from socrates.files import read_json, whole_number
from socrates.machine.preflight.checks import FAIL, PASS, WARN, Check, gib
from socrates.machine.preflight.model import ModelState

# Measured (benchmarks/results/bench_data.md): rows of 371 tokens, 13,000 a second.
_TOKENS_A_MINUTE = 13_000 * 371 * 60
_BYTES_A_TOKEN = 4  # of English text, about; and of the tokenized set
_LOOKED_AT = 4 * 2**20  # bytes, for the mean length of a row


@dataclass(frozen=True)
class DataState:
    """What is known of a run's training rows; None where it is not."""

    steps: int | None  # optimizer steps of the run
    tokens_a_row: float | None
    to_come: int  # bytes of the tokenized set, 0 where it is there


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


def inspect_data(config: RunConfig, model: ModelState, config_file: str = "FILE") -> tuple[list[Check], DataState]:
    """All checks of a run's data, and what the other checks need to know of it.

    Args:
        config: the run.
        model: whose tokenizer makes the tokens.
        config_file: what the config is called on the command line, for the remedies.

    Raises:
        SocratesError: metadata.json is malformed.
    """
    checks = list(check_data_files(config))
    if checks[0].outcome == FAIL:
        return checks, DataState(config.training.max_steps, None, 0)
    tokenized = _tokenized_folder(config, model.folder)
    if tokenized is not None and tokenized.is_dir():
        try:
            info = read_info(tokenized)
        except SocratesError as error:
            problem, _, remedy = str(error).rpartition("; ")
            return [*checks, Check("tokenized set", FAIL, problem, remedy)], DataState(None, None, 0)
        rows, tokens = info["rows"], info["tokens"]
        checks.append(Check("tokenized set", PASS, f"{tokenized.name}: {rows} rows, {tokens} tokens"))
        return checks, DataState(config.planned_steps(rows), tokens / rows, 0)
    rows, tokens_a_row = _count_rows(config), _estimated_tokens(config.train_file)
    checks.append(_check_to_be_made(config, tokenized, rows * tokens_a_row, config_file))
    return checks, DataState(config.planned_steps(rows), tokens_a_row, int(rows * tokens_a_row * _BYTES_A_TOKEN))


def _count_rows(config: RunConfig) -> int:
    """Training rows: as the metadata say or, without them, counted."""
    metadata = Path(config.dataset_path) / METADATA
    rows = read_json(metadata, "data set's metadata").get("rows") if metadata.is_file() else None
    count = whole_number(rows.get("train")) if isinstance(rows, dict) else None
    if count is not None:
        return count
    with config.train_file.open("rb") as file:
        return sum(1 for _ in file)


def _check_to_be_made(config: RunConfig, tokenized: Path | None, tokens: float, config_file: str) -> Check:
    """The check of a set that is not there, or (None) of which that is not known, as the tokenizer is not here."""
    minutes = math.ceil(tokens / _TOKENS_A_MINUTE)
    if minutes <= 1:
        return Check("tokenized set", PASS, "will be made first, in under a minute")
    command = f"prepare_data.py --check --output {config.dataset_path} --tokenize --config {config_file}"
    make = f"make it now, before a GPU costs money: python scripts/{command}"
    where = "is not known to be there (no tokenizer here)" if tokenized is None else f"{tokenized.name} is not there"
    text = f"this run's {where}: it will be made first, about {minutes} minutes in which the GPUs wait"
    return Check("tokenized set", WARN, text, make)


def _tokenized_folder(config: RunConfig, model: Path | None) -> Path | None:
    """Where this run's set is or will be; None where there is no tokenizer to know it by."""
    from socrates.model.load import load_tokenizer

    if model is None:
        return None
    try:
        tokenizer = load_tokenizer(model)
    except SocratesError:
        return None
    digest, system = sha256_of_part(config.train_file), config.prompt.system_message
    fingerprint = tokenized_fingerprint(digest, tokenizer, system, config.training.max_length)
    return Path(config.dataset_path) / f"tokenized-{fingerprint}"


def _estimated_tokens(path: Path) -> float:
    """Tokens a row, about: the mean bytes of its prompts, over four; from the beginning of the file."""
    with path.open("rb") as file:
        lines = file.read(_LOOKED_AT).splitlines()
    lengths = []
    for line in lines[:-1] or lines:  # the last is cut off
        try:
            lengths.append(len(json.loads(line)["prompt"].encode()))
        except (ValueError, KeyError, TypeError, AttributeError):  # preparation reads rows; this only guesses
            lengths.append(len(line))
    return sum(lengths) / max(len(lengths), 1) / _BYTES_A_TOKEN
