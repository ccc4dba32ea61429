"""A checkpoint folder: its manifest, its verification, the newest complete one.

Covers: a checkpoint is `checkpoint-N/` with a `manifest.json` that was written last, and every file that the manifest
lists, with its size and SHA-256; of anything else the reason is reported. A manifest may come from another machine.
Does not cover: whether the weights inside are any good.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from socrates.errors import SocratesError
from socrates.files import read_json, sha256_file, whole_number, write_json

MANIFEST = "manifest.json"
TRAINING_CONFIG = "training_config.json"
TRAINING_DATA = "training_data.json"
SET_ASIDE = "set-aside"
WEIGHTS_ONLY = "--resume-weights-only"  # the option with which a training goes on from weights alone
# What the guide lists as the contents of a checkpoint.
GUIDE_FILES = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "optimizer.pt",
    "trainer_state.json",
    "training_args.bin",
)
RSYNC_PARTIAL = ".rsync-partial"  # where `tnr scp` keeps a part of a file, to go on with it
# What a training needs to go on with a checkpoint's weights, once the optimizer's shards are lost.
_FOR_WEIGHTS = ("adapter_config.json", "adapter_model.safetensors", "trainer_state.json", TRAINING_CONFIG)
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NAME = re.compile(r"checkpoint-([0-9]+)")
_PATH = re.compile(r"[A-Za-z0-9._+@=-]+(/[A-Za-z0-9._+@=-]+)*")
_NO_NAMES = {".", "..", RSYNC_PARTIAL}  # of a checkpoint's files
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILES_LIMIT = 1000  # some are one command line; 64 ranks save about 200
_SIZE_LIMIT = 2**50  # bytes of one file
_RANKS_LIMIT = 4096


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint consists of."""

    step: int  # N of `checkpoint-N`
    num_processes: int  # ranks that saved it
    files: dict[str, tuple[int, str]]  # relative path -> (bytes, SHA-256)
    left_out: tuple[str, ...] = ()  # by a light download, on the training machine: no training goes on without them
    source_sha256: str | None = None  # of the manifest that a light one was made from


def is_run_name(text: str) -> bool:
    """Whether a text can be the name of a run's folder."""
    return _RUN.fullmatch(text) is not None and text != SET_ASIDE


def checkpoint_step(path: Path | str) -> int | None:
    """N of a folder named `checkpoint-N`; None for any other name."""
    match = _NAME.fullmatch(Path(path).name)
    return int(match[1]) if match else None


def write_manifest(folder: Path, num_processes: int) -> None:
    """List every file of a finished checkpoint, flush them all to disk, and write `manifest.json` last.

    Raises:
        SocratesError: a file of the guide's list is missing (the checkpoint could not be used), or no space.
    """
    if missing := [name for name in GUIDE_FILES if not (folder / name).is_file()]:
        raise SocratesError(f"{folder}: lacks {', '.join(missing)}; not marked as complete")
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        files[path.relative_to(folder).as_posix()] = (path.stat().st_size, sha256_file(path))
    write_json(folder / MANIFEST, manifest_record(Manifest(checkpoint_step(folder), num_processes, files)))


def manifest_record(manifest: Manifest) -> dict[str, Any]:
    """What `manifest.json` says."""
    record: dict[str, Any] = {
        "step": manifest.step,
        "num_processes": manifest.num_processes,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": [{"path": path, "size": size, "sha256": digest} for path, (size, digest) in manifest.files.items()],
    }
    if manifest.left_out:
        record |= {"left_out": list(manifest.left_out), "source_sha256": manifest.source_sha256}
    return record


def read_manifest(folder: Path | str) -> Manifest:
    """Read a checkpoint's manifest, perhaps from another machine.

    Raises:
        SocratesError: there is none, or it is malformed: a path that leaves the folder or is none of plain names, one
            that stands there twice, a number, size or SHA-256 that cannot be one, none or more files than a checkpoint
            has.
    """
    path = Path(folder) / MANIFEST
    value = read_json(path, "manifest")
    try:
        listed = [(str(f["path"]), f["size"], str(f["sha256"])) for f in value["files"]]
        left_out = tuple(map(str, value.get("left_out", ())))
        step, num_processes = whole_number(value["step"]), whole_number(value["num_processes"], 1, _RANKS_LIMIT)
    except (KeyError, TypeError) as error:
        raise SocratesError(f"{path}: malformed: {error!r}") from error
    if step is None or num_processes is None:
        raise SocratesError(f'{path}: "step" or "num_processes" is a number that cannot be one')
    if not 0 < len(listed) <= _FILES_LIMIT:
        raise SocratesError(f"{path}: lists {len(listed) or 'no'} files; 1 to {_FILES_LIMIT} are taken")
    seen = {MANIFEST}  # itself no file of the list; some disks tell no capitals apart
    for name, size, sha256 in listed:
        if not _PATH.fullmatch(name) or len(name) > 1000 or _NO_NAMES & {*name.split("/")} or name.lower() in seen:
            raise SocratesError(f"{path}: lists a name that no file of a checkpoint has, or twice: {name[:120]!r}")
        if whole_number(size, 0, _SIZE_LIMIT) is None or not _SHA256.fullmatch(sha256):
            raise SocratesError(f"{path}: lists {name} with a size or SHA-256 that cannot be one")
        seen.add(name.lower())
    files = {name: (size, sha256) for name, size, sha256 in listed}
    return Manifest(step, num_processes, files, left_out, value.get("source_sha256"))


def find_damage(
    folder: Path | str, only: Collection[str] | None = None, digest: Callable[[Path], str] | None = sha256_file
) -> str | None:
    """The first thing wrong with a checkpoint, or None if all that its manifest lists is there and intact.

    Args:
        folder: `checkpoint-N`.
        only: the paths to look at, of those that the manifest lists; None: all.
        digest: gives a file's SHA-256, perhaps from memory; None: sizes alone decide.
    """
    folder = Path(folder)
    try:
        if not (folder / MANIFEST).is_file():
            return f"no {MANIFEST}: it was not finished"
        manifest = read_manifest(folder)
        if checkpoint_step(folder) not in (manifest.step, None):  # under another name it may be a copy
            return f"{MANIFEST} is of step {manifest.step}"
        wanted = {path: entry for path, entry in manifest.files.items() if only is None or path in only}
        for path, (size, _) in wanted.items():  # sizes first: they are known at once
            file = folder / path
            if not file.is_file():
                return f"{path} is missing"
            if file.stat().st_size != size:
                return f"{path} has {file.stat().st_size} bytes, not {size}"
        for path, (_, sha256) in wanted.items():
            if digest is not None and digest(folder / path) != sha256:
                return f"{path} has changed: its SHA-256 is not the manifest's"
    except SocratesError as error:
        return str(error)
    except OSError as error:  # a disk that fails, a folder that is not ours
        return f"{error.filename or folder} cannot be read: {error.strerror or error}"
    return None


def list_checkpoints(output_dir: Path | str) -> list[Path]:
    """All folders named `checkpoint-N`, newest (largest N) first, complete or not."""
    found = {p: step for p in Path(output_dir).glob("checkpoint-*") if (step := checkpoint_step(p)) is not None}
    return sorted(filter(Path.is_dir, found), key=lambda folder: found[folder], reverse=True)


def newest_complete(output_dir: Path | str, *, weights_only: bool = False) -> tuple[Path | None, dict[Path, str]]:
    """The newest checkpoint that a training can go on from, and the newer ones passed over, with the reason.

    With ``weights_only`` one whose weights alone are complete will do as well (`why_not_from_weights`).
    """
    passed_over = {}
    for folder in list_checkpoints(output_dir):
        reason = why_not_resumable(folder)
        if reason is None or (weights_only and why_not_from_weights(folder) is None):
            return folder, passed_over
        passed_over[folder] = reason
    return None, passed_over


def why_not_resumable(folder: Path | str) -> str | None:
    """Why no training can go on from a checkpoint (damaged, or a light download), or None if one can."""
    if damage := find_damage(folder):
        return damage
    if left_out := read_manifest(folder).left_out:
        return (
            f"a light download: {len(left_out)} of its files were left on the training machine ({left_out[0]}, ...); "
            f"./scripts/download_checkpoint.sh {checkpoint_step(Path(folder).resolve())} brings them"
        )
    return None


def why_not_from_weights(folder: Path | str) -> str | None:
    """Why no training can go on even with a checkpoint's weights alone, the optimizer lost; None if one can.

    The adapter, the step, and what it was trained with must be there and intact. A light download is enough.
    """
    if damage := find_damage(folder, only=_FOR_WEIGHTS):
        return damage
    unlisted = [name for name in _FOR_WEIGHTS if name not in read_manifest(folder).files]
    return f"{MANIFEST} does not list {', '.join(unlisted)}" if unlisted else None


def set_aside(path: Path) -> Path:
    """Move a folder or file to `set-aside/` beside it, under a name that is free, so that its name is free again."""
    target_folder = path.parent / SET_ASIDE
    target_folder.mkdir(exist_ok=True)
    return path.rename(target_folder / f"{path.name}-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}")


def read_training_config(folder: Path | str) -> dict[str, Any]:
    """What a checkpoint was trained with: `config`, `prompt_fingerprint`, `data` (SHA-256, split), versions."""
    return read_json(Path(folder) / TRAINING_CONFIG, "training config of the checkpoint")


def is_finished(checkpoint: Path) -> bool:
    """Whether a checkpoint is the last one of its run."""
    state = read_json(checkpoint / "trainer_state.json", "trainer's state", nan_is_null=True)
    if None in (steps := [whole_number(state.get(name)) for name in ("global_step", "max_steps")]):
        raise SocratesError(f'{checkpoint}/trainer_state.json: "global_step" and "max_steps" must be whole numbers')
    return steps[0] >= steps[1]
