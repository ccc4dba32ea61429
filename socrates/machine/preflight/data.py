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
from typing import Any

from socrates.config import RunConfig
from socrates.data.dataset import METADATA, sha256_of_part
from socrates.data.tokenized import INFO, read_info, tokenized_fingerprint
from socrates.errors import SocratesError
from socrates.files import read_json
from socrates.machine.preflight.checks import FAIL, PASS, WARN, Check, gib
from socrates.machine.preflight.model import ModelState

# Measured (benchmarks/results/bench_data.md): rows of 371 tokens, 13,000 a second.
_TOKENS_A_SECOND = 13_000 * 371
_BYTES_A_TOKEN = 4  # of English text, about; and of the tokenized set
_LOOKED_AT = 4 * 2**20  # bytes, for the mean length of a row
_LONG = 60.0  # seconds; what takes longer is better done before a GPU costs money


@dataclass(frozen=True)
class DataState:
    """What is known of a run's training rows; None where it is not."""

    rows: int | None
    steps: int | None  # optimizer steps of the run
    tokens_a_row: float | None
    to_come: int  # bytes of the tokenized set, 0 where it is there


def check_data_files(config: RunConfig, root: Path, digests: dict[Path, str] | None = None) -> Iterator[Check]:
    """The files to train and to evaluate on are there, not empty, and those that the set's metadata describe.

    Args:
        config: the run.
        root: its current folder.
        digests: gets the SHA-256 of each file that passes.
    """
    digests = {} if digests is None else digests
    watches = config.training.eval_steps is not None  # it reads the evaluation rows, too
    for file, needed in ((config.train_file, True), (config.evaluation_file, watches)):
        path = root / file
        remedy = f"tnr scp 0 {config.dataset_path}/ ~/socrates-training/{config.dataset_path}/"
        if not path.is_file() or not path.stat().st_size:
            state = "is empty" if path.is_file() else "is not there"
            yield Check("data", FAIL if needed else WARN, f"{file} {state}", remedy)
            continue
        try:
            digests[file] = sha256_of_part(path)  # remembered beside the file: a training then starts at once
        except SocratesError as error:
            yield Check("data", FAIL, _seen_from(root, error), remedy)
        else:
            yield Check("data", PASS, f"{file}: {gib(path.stat().st_size)}")


def inspect_data(
    config: RunConfig, root: Path, model: ModelState, config_file: str = "FILE"
) -> tuple[list[Check], DataState]:
    """All checks of a run's data, and what the other checks need to know of it.

    Args:
        config: the run.
        root: its current folder.
        model: whose tokenizer makes the tokens.
        config_file: what the config is called on the command line, for the remedies.
    """
    digests: dict[Path, str] = {}
    checks = list(check_data_files(config, root, digests))
    if checks[0].outcome == FAIL:
        return checks, DataState(None, config.training.max_steps, None, 0)
    command = f"prepare_data.py --check --output {config.dataset_path} --tokenize --config {config_file}"
    make = f"make it now, before a GPU costs money: python scripts/{command}"
    wanted = _fingerprint(config, model.folder, digests[config.train_file]) if model.folder else None
    right = root / config.dataset_path / f"tokenized-{wanted}"
    if right.is_dir():
        check, info = _check_tokenized(right, root)
        if info:
            rows = info["rows"]
            return [*checks, check], DataState(rows, config.planned_steps(rows), info["tokens"] / rows, 0)
    rows, tokens = count_rows(config, root), _estimated_tokens(root / config.train_file)
    if not right.is_dir():
        check = _check_to_be_made(right, wanted is not None, rows * tokens, make)
    state = DataState(rows, config.planned_steps(rows), tokens, int(rows * tokens * _BYTES_A_TOKEN))
    return [*checks, check], state


def count_rows(config: RunConfig, root: Path) -> int:
    """Training rows: as the metadata say or, without them, counted.

    Raises:
        SocratesError: metadata.json is there and malformed.
    """
    metadata = root / config.dataset_path / METADATA
    rows = read_json(metadata, "data set's metadata").get("rows") if metadata.is_file() else None
    count = rows.get("train") if isinstance(rows, dict) else None
    if isinstance(count, int) and not isinstance(count, bool):
        return count
    with (root / config.train_file).open("rb") as file:
        return sum(1 for _ in file)


def _check_tokenized(folder: Path, root: Path) -> tuple[Check, dict[str, Any] | None]:
    """The check of the run's own set, and what it counts where it is whole."""
    try:
        info = read_info(folder)
    except SocratesError as error:
        problem, _, remedy = _seen_from(root, error).rpartition("; ")
        return Check("tokenized set", FAIL, problem, remedy), None
    return Check("tokenized set", PASS, f"{folder.name}: {info['rows']} rows, {info['tokens']} tokens"), info


def _check_to_be_made(right: Path, known: bool, tokens: float, make: str) -> Check:
    """The check of a set that is not there, as far as is known.

    Args:
        right: where it would be.
        known: whether that is sure; else the tokenizer is not here, or cannot be read.
        tokens: that it will have, about.
        make: what to do.
    """
    others = ", ".join(sorted(path.name for path in right.parent.glob("tokenized-*") if (path / INFO).is_file()))
    if others and known:
        text = (
            f"stale: {others} is of another data file, tokenizer, system message or max_length; this run's, "
            f"{right.name}, is not there"
        )
        return Check("tokenized set", WARN, text, make)
    if others:
        text = f"{others}: whether it is this run's is unknown: the model's tokenizer is not here, or cannot be read"
        return Check("tokenized set", WARN, text, make)
    seconds = tokens / _TOKENS_A_SECOND
    if seconds <= _LONG:
        return Check("tokenized set", PASS, "will be made first, in under a minute")
    text = f"will be made first, which takes about {math.ceil(seconds / 60)} minutes, and the GPUs wait"
    return Check("tokenized set", WARN, text, make)


def _seen_from(root: Path, error: SocratesError) -> str:
    """A message with paths as they are written in the project's folder."""
    return str(error).replace(f"{root}/", "")


def _fingerprint(config: RunConfig, folder: Path, data_sha256: str) -> str | None:
    """The name of this run's set; None where the tokenizer cannot be read."""
    from socrates.model.load import load_tokenizer

    try:
        tokenizer = load_tokenizer(folder)
    except SocratesError:
        return None
    return tokenized_fingerprint(data_sha256, tokenizer, config.prompt.system_message, config.training.max_length)


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
