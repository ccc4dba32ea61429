"""Preflight of what a run reads: the model, from its folder or the hub, and the data.

Covers: one request to the hub at most, with a time limit; the token's value goes there alone. A data file is read once
for its digest, which is then remembered beside it; with rows_per_cell that of training once more, to count its cells.
Does not cover: whether the weights are the right ones, and whether the rows can be read, which making tokens shows.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Literal

from huggingface_hub import constants, errors, try_to_load_from_cache

from socrates.config import RunConfig
from socrates.console import progress
from socrates.data.dataset import read_metadata, sha256_of_part
from socrates.data.records import read_answers
from socrates.data.tokenized import INFO
from socrates.errors import SocratesError
from socrates.files import read_json, whole_number
from socrates.machine.preflight.checks import FAIL, PASS, WARN, Check, gib
from socrates.model.hub import TIMEOUT_S, check_weights, names_a_folder, probe_hub
from socrates.model.sizing import KNOWN_SHAPES, ModelShape

_BYTES_A_TOKEN = 4  # of English text, about; and of the tokenized set
_LOOKED_AT = 10_000  # rows, for the mean length of a prompt


@dataclass(frozen=True)
class ModelState:
    """What is known of a run's model without the hub."""

    shape: ModelShape | None = None  # None where its costs are not known
    missing_bytes: int = 0  # of weights that are still to be downloaded, about; 0 if unknown
    problem: str | None = None  # why nothing can be trained from what lies here
    context: int | None = None  # the most tokens that it can read; None where that is not known


@dataclass(frozen=True)
class DataState:
    """What is known of a run's training rows; None where it is not."""

    steps: int | None  # optimizer steps of the run
    tokens_a_row: float | None = None  # about
    to_come: int = 0  # bytes of the tokenized set, about; 0 where there is one
    sizes: tuple[int, ...] = ()  # rows of each cell, where `data.rows_per_cell` leaves a part of them


def model_state(config: RunConfig) -> ModelState:
    """Look for a run's model in its folder, or in the hub's cache."""
    name = config.model_name
    if names_a_folder(name):
        return _look_into(Path(name).expanduser())
    cached, cache = None, constants.HF_HUB_CACHE
    with suppress(errors.HFValidationError):  # no name of the hub, which then says so
        cached = try_to_load_from_cache(name, "config.json", cache_dir=cache, revision=config.model_revision)
    state = _look_into(Path(cached).parent) if isinstance(cached, str) else ModelState(problem="not in the cache")
    shape = state.shape or KNOWN_SHAPES.get(name)
    if not shape or not state.problem:
        return ModelState(shape, 0, state.problem, state.context)
    blobs = Path(cache) / f"models--{name.replace('/', '--')}" / "blobs"
    there = sum(file.stat().st_size for file in blobs.glob("*"))  # also of a download that was broken off
    return ModelState(shape, max(2 * shape.parameters - there, 0), state.problem, state.context)


def _look_into(folder: Path) -> ModelState:
    shape = context = None
    try:
        config = read_json(folder / "config.json", "model's config")
        context = whole_number(config.get("max_position_embeddings"), 1)
        shape = ModelShape.from_config(config, str(folder / "config.json"))
        check_weights(folder)
    except SocratesError as error:
        return ModelState(shape, problem=str(error), context=context)
    return ModelState(shape, context=context)


def check_model(config: RunConfig, state: ModelState) -> list[Check]:
    """HF_TOKEN can be one, and the model is here, or to be had from the hub, which is asked with this token."""
    name, token = config.model_name, os.environ.get("HF_TOKEN", "")
    if names_a_folder(name):
        check = Check("model", PASS, f"{name}: a folder with all its weights")
        if state.problem:
            check = Check("model", FAIL, f"{name}: {state.problem}", "copy the model's folder here again")
        return [Check("HF_TOKEN", PASS, f"not needed: {name} is a folder"), check]
    if not (token.isascii() and token.isprintable()) or " " in token:  # a request would fail with it in its message
        remedy = "set it to a token of the hub's page (Settings, Access Tokens), or unset it: Qwen2.5 needs none"
        return [Check("HF_TOKEN", FAIL, "is no token: spaces, line breaks or other letters in it", remedy)]
    check = Check("HF_TOKEN", PASS, "set")
    if not token:
        text = "not set: downloads are slower, and gated models fail"
        check = Check("HF_TOKEN", WARN, text, 'export HF_TOKEN="hf_…"')
    return [check, _ask_hub(config, state)]


def _ask_hub(config: RunConfig, state: ModelState) -> Check:
    name, offline = config.model_name, constants.HF_HUB_OFFLINE
    try:
        reachable = not offline and probe_hub("model", name, config.model_revision)
    except SocratesError as error:
        problem, _, remedy = str(error).partition("; ")
        return Check("model", FAIL, problem, remedy or 'correct "model_name" or "model_revision"')
    if state.problem is None:
        return Check("model", PASS, f"{name}: in the cache" + ("" if reachable else "; the hub is not reached"))
    if reachable:
        about = f" of about {gib(state.missing_bytes)}" if state.missing_bytes else ""
        return Check("model", PASS, f"{name}: to be had from the hub; a download{about} comes first")
    why = "HF_HUB_OFFLINE is set" if offline else f"the hub cannot be reached within {TIMEOUT_S} s"
    remedy = "unset HF_HUB_OFFLINE" if offline else "look at the network (HF_ENDPOINT, proxies)"
    remedy += ', or copy the model here and write its folder as "model_name"'
    return Check("model", FAIL, f"{name}: not, or not completely, in the cache, and {why}", remedy)


def inspect_data(config: RunConfig) -> tuple[list[Check], DataState]:
    """The checks of the files to train and to evaluate on, and what the other checks need to know of them."""
    watches, folder = config.training.eval_steps is not None, Path(config.dataset_path)
    checks = [_check_file(config.train_file, FAIL), _check_file(config.evaluation_file, FAIL if watches else WARN)]
    if checks[0].outcome == FAIL:
        return checks, DataState(config.training.max_steps)
    rows = None
    with suppress(SocratesError, KeyError):
        rows = whole_number(read_metadata(folder)["rows"]["train"])
    with config.train_file.open("rb") as file:
        lines = list(islice(file, _LOOKED_AT))
        rows = rows or len(lines) + sum(1 for _ in file)
    sizes, cap = (), config.data.rows_per_cell
    with suppress(SocratesError):  # tokenizing says which row it is
        answers = progress(read_answers(config.train_file, Counter()), "counting cells") if cap else ()
        sizes = tuple(Counter(answer.cell for answer in answers).values())
    steps = config.planned_steps(sum(min(size, cap) for size in sizes) or rows)
    try:
        tokens = fmean(map(_tokens, lines))
    except (ValueError, KeyError, TypeError):  # tokenizing says which row it is
        return checks, DataState(steps, sizes=sizes)
    tokenized = any(folder.glob(f"tokenized-*/{INFO}"))
    return checks, DataState(steps, tokens, 0 if tokenized else int(rows * tokens * _BYTES_A_TOKEN), sizes)


def check_lengths(config: RunConfig, context: int | None) -> list[Check]:
    """A warning where rows to evaluate on are longer, about, than the model can read."""
    file, long = config.evaluation_file, 0
    with suppress(OSError, ValueError, KeyError, TypeError), file.open("rb") as lines:  # evaluation says which row
        long = sum(context < len(line) / _BYTES_A_TOKEN and context < _tokens(line) for line in lines if context)
    text = f"{file}: about {long} rows are longer than the {context} tokens that {config.model_name} can read"
    return [Check("data", WARN, text, "evaluation leaves them out; shorten them, or take another model")] * (long > 0)


def _tokens(line: bytes) -> float:
    """Of a row's prompt, about."""
    return len(json.loads(line)["prompt"]) / _BYTES_A_TOKEN


def _check_file(file: Path, outcome_without: Literal["warn", "FAIL"]) -> Check:
    """That it is there, not empty, and what the set's metadata describe."""
    remedy = f"tnr scp 0 {file.parent}/ ~/socrates-training/{file.parent}/"
    if not file.is_file() or not file.stat().st_size:
        state = "is empty" if file.is_file() else "is not there"
        return Check("data", outcome_without, f"{file} {state}", remedy)
    try:
        sha256_of_part(file)  # remembered beside the file: a training then starts at once
    except SocratesError as error:
        return Check("data", FAIL, str(error), remedy)
    return Check("data", PASS, f"{file}: {gib(file.stat().st_size)}")
