"""Preflight of the model: whether it is in the cache, its shape, and whether the hub gives it and accepts HF_TOKEN.

Covers: two requests at most, each with a time limit; the token's value goes to the hub alone. Does not cover: whether
the weights are the right ones.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, errors, try_to_load_from_cache
from huggingface_hub.utils import build_hf_headers, get_session

from socrates.config import RunConfig
from socrates.errors import SocratesError
from socrates.files import read_json
from socrates.machine.preflight.checks import FAIL, PASS, WARN, Check, gib
from socrates.model.hub import TIMEOUT_S, check_weights, names_a_folder, probe_hub
from socrates.model.sizing import KNOWN_SHAPES, ModelShape


@dataclass(frozen=True)
class ModelState:
    """What is known of a run's model without the hub."""

    local: bool  # a folder of this machine, not a hub name
    folder: Path | None  # where its config and tokenizer lie
    shape: ModelShape | None
    missing_bytes: int  # of weights that are still to be downloaded, about; 0 if unknown
    problem: str | None  # why nothing can be trained from what lies here


def model_state(config: RunConfig, root: Path) -> ModelState:
    """Look for a run's model in its folder, or in the hub's cache."""
    name = config.model_name
    folder = root / Path(name).expanduser()
    if folder.is_dir():
        return ModelState(True, folder, _shape_in(folder), 0, _why_incomplete(folder))
    if names_a_folder(name):
        return ModelState(True, None, None, 0, "no such folder")
    cached = _cached_folder(config)
    shape = (_shape_in(cached) if cached else None) or KNOWN_SHAPES.get(name)
    complete = cached is not None and _why_incomplete(cached) is None
    return ModelState(
        False, cached, shape, 0 if complete else _bytes_to_come(name, shape), None if complete else "incomplete"
    )


def check_hub(config: RunConfig, state: ModelState) -> Iterator[Check]:
    """The token is one that the hub accepts, and the model is here, or to be had."""
    name = config.model_name
    if state.local:
        yield Check("HF_TOKEN", PASS, f"not needed: {name} is a folder")
        if state.problem is None:
            yield Check("model", PASS, f"{name}: a folder with all its weights")
        else:
            yield Check("model", FAIL, f"{name}: {state.problem}", "copy the model's folder here again")
        return
    token, reachable = os.environ.get("HF_TOKEN"), not constants.HF_HUB_OFFLINE
    if not token:
        text = "not set: downloads are slower, and gated models fail"
        yield Check("HF_TOKEN", WARN if state.problem or reachable else PASS, text, 'export HF_TOKEN="hf_…"')
    elif not reachable:
        yield Check("HF_TOKEN", PASS, "set, not checked: HF_HUB_OFFLINE is set")
    else:
        check, reachable = _check_token(token)
        yield check
        if check.outcome == FAIL:  # all other requests would be refused too
            return
    yield _check_model(config, state, reachable)


def _check_model(config: RunConfig, state: ModelState, reachable: bool) -> Check:
    name = config.model_name
    try:
        reachable = reachable and probe_hub("model", name, config.model_revision)
    except SocratesError as error:
        problem, _, remedy = str(error).partition("; ")
        return Check("model", FAIL, problem, remedy or 'correct "model_name" or "model_revision"')
    if state.problem is None:
        return Check("model", PASS, f"{name}: in the cache" + ("" if reachable else "; the hub is not reached"))
    if reachable:
        about = f" of about {gib(state.missing_bytes)}" if state.missing_bytes else ""
        return Check("model", PASS, f"{name}: to be had from the hub; a download{about} comes first")
    why, remedy = f"the hub cannot be reached within {TIMEOUT_S} s", "look at the network (HF_ENDPOINT, proxies)"
    if constants.HF_HUB_OFFLINE:
        why, remedy = "HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE"
    remedy += ', or copy the model here and write its folder as "model_name"'
    return Check("model", FAIL, f"{name}: not, or not completely, in the cache, and {why}", remedy)


def _check_token(token: str) -> tuple[Check, bool]:
    """The check, and whether the hub can be reached. No message of a library is passed on: it may hold the token."""
    remedy = "make a new token on the hub's page (Settings, Access Tokens), or unset HF_TOKEN: Qwen2.5 needs none"
    if not (token.isascii() and token.isprintable()) or " " in token:
        return Check("HF_TOKEN", FAIL, "is no token: spaces, line breaks or other letters in it", remedy), True
    try:  # not by the hub's own `whoami`, which has no time limit
        headers = build_hf_headers(token=token)
        status = (
            get_session().get(f"{constants.ENDPOINT}/api/whoami-v2", headers=headers, timeout=TIMEOUT_S).status_code
        )
    except Exception:  # each version of the client has its own errors; all mean that there was no answer
        return Check("HF_TOKEN", WARN, "set, not checked: the hub cannot be reached"), False
    if status in (401, 403):
        return Check("HF_TOKEN", FAIL, f"the hub refuses it (status {status})", remedy), True
    if status != 200:
        return Check("HF_TOKEN", WARN, f"set, not checked: the hub answered with status {status}"), True
    return Check("HF_TOKEN", PASS, "accepted by the hub"), True


def _shape_in(folder: Path) -> ModelShape | None:
    """None where there is no config.json, or one of another architecture: its costs are not known here."""
    file = folder / "config.json"
    try:
        return ModelShape.from_config(read_json(file, "model's config"), str(file))
    except SocratesError:
        return None


def _why_incomplete(folder: Path) -> str | None:
    if not (folder / "config.json").is_file():
        return "holds no config.json"
    try:
        check_weights(folder)
    except SocratesError as error:
        return str(error)
    return None


def _cached_folder(config: RunConfig) -> Path | None:
    """The snapshot of a hub model in the local cache, complete or not; None where there is none."""
    name, cache = config.model_name, constants.HF_HUB_CACHE
    try:
        found = try_to_load_from_cache(name, "config.json", cache_dir=cache, revision=config.model_revision)
    except errors.HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def _bytes_to_come(name: str, shape: ModelShape | None) -> int:
    """Of the weights (bf16), about; what a broken-off download has left in the cache counts."""
    size_in_name = re.search(r"(\d+(?:\.\d+)?)[Bb]\b", name)
    parameters = shape.parameters if shape else float(size_in_name[1]) * 1.05e9 if size_in_name else 0
    blobs = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "blobs"
    there = sum(file.stat().st_size for file in blobs.iterdir()) if blobs.is_dir() else 0
    return max(int(2 * parameters) - there, 0)
