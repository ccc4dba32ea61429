"""Preflight of the model: whether it is here, its shape, and whether the hub gives it and accepts HF_TOKEN.

Covers: one request at most, with a time limit; the token's value goes to the hub alone. Does not cover: whether the
weights are the right ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, errors, try_to_load_from_cache

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
    shape: ModelShape | None  # None where its costs are not known
    missing_bytes: int  # of weights that are still to be downloaded, about; 0 if unknown
    problem: str | None  # why nothing can be trained from what lies here


def model_state(config: RunConfig) -> ModelState:
    """Look for a run's model in its folder, or in the hub's cache."""
    name = config.model_name
    local = names_a_folder(name) or Path(name).is_dir()
    folder = Path(name).expanduser() if local else _cached_folder(config)
    shape, problem = _look_into(folder) if folder and folder.is_dir() else (None, "no such folder")
    shape = shape or KNOWN_SHAPES.get(name)
    return ModelState(local, shape, 0 if local or not problem else _bytes_to_come(name, shape), problem)


def check_hub(config: RunConfig, state: ModelState) -> Iterator[Check]:
    """HF_TOKEN can be one, and the model is here, or to be had from the hub, which is asked with this token."""
    name, token, offline = config.model_name, os.environ.get("HF_TOKEN"), constants.HF_HUB_OFFLINE
    if state.local:
        yield Check("HF_TOKEN", PASS, f"not needed: {name} is a folder")
        if state.problem is None:
            yield Check("model", PASS, f"{name}: a folder with all its weights")
        else:
            yield Check("model", FAIL, f"{name}: {state.problem}", "copy the model's folder here again")
        return
    if not token:
        text = "not set: downloads are slower, and gated models fail"
        yield Check("HF_TOKEN", PASS if offline and not state.problem else WARN, text, 'export HF_TOKEN="hf_…"')
    elif not (token.isascii() and token.isprintable()) or " " in token:  # a request would fail with it in its message
        remedy = "set it to a token of the hub's page (Settings, Access Tokens), or unset it: Qwen2.5 needs none"
        yield Check("HF_TOKEN", FAIL, "is no token: spaces, line breaks or other letters in it", remedy)
        return
    else:
        yield Check("HF_TOKEN", PASS, "set")
    yield _check_model(config, state)


def _check_model(config: RunConfig, state: ModelState) -> Check:
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


def _look_into(folder: Path) -> tuple[ModelShape | None, str | None]:
    """A model's shape, and why nothing can be trained from it."""
    shape = None
    try:
        config = read_json(folder / "config.json", "model's config")
        shape = ModelShape.from_config(config, str(folder / "config.json"))
        check_weights(folder)
    except SocratesError as error:
        return shape, str(error)
    return shape, None


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
    blobs = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "blobs"
    there = sum(file.stat().st_size for file in blobs.iterdir()) if blobs.is_dir() else 0
    return max(2 * shape.parameters - there, 0) if shape else 0
