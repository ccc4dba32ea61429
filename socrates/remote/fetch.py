"""Fetching checkpoints from an instance: copied, verified, and only then under their name.

Covers: `checkpoint-N` appears by one rename once every byte is verified and on disk; what stood there before is moved
to `set-aside/`, never written over; two processes at once, a kill at any moment and a transfer that outlives its
program do no harm.
Does not cover: when to look, and what to say (`monitor.py`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from socrates.checkpoint import (
    GUIDE_FILES,
    MANIFEST,
    TRAINING_CONFIG,
    TRAINING_DATA,
    Manifest,
    checkpoint_step,
    manifest_record,
    read_manifest,
    set_aside,
)
from socrates.errors import SocratesError
from socrates.files import lock_is_held, sync_folder, write_json
from socrates.remote.instance import Instance
from socrates.remote.listing import list_trainings, read_listing, read_remote_manifest
from socrates.remote.local import (
    ABSENT,
    DAMAGED,
    LIGHT,
    OTHER,
    PARTIAL,
    TRAINING_LOCK,
    Busy,
    hold_lock,
    local_errors,
    local_state,
)
from socrates.remote.transfer import NotThere, copy_verified

# The guide's five files, and what evaluation reads besides (some KB).
LIGHT_FILES = (*GUIDE_FILES, TRAINING_CONFIG, TRAINING_DATA)


def fetch_checkpoint(
    instance: Instance,
    source: str,
    target: Path,
    *,
    manifest_sha256: str | None = None,
    light: bool = False,
    starting: Callable[[], None] = lambda: None,
    moved: Callable[[str], None] = lambda sentence: None,
    waits: Callable[[str], None] | None = None,
) -> bool:
    """Bring a checkpoint from an instance to its place here, verified; False if it is there intact already.

    Args:
        instance: where it is.
        source: its folder there, relative to the home folder or absolute.
        target: its folder here, named checkpoint-N.
        manifest_sha256: SHA-256 of the instance's manifest as it was listed; None: as it is now.
        light: LIGHT_FILES only; a complete one that is here is kept.
        starting: called before the first byte is fetched.
        moved: called with a sentence about something that was moved out of the way.
        waits: called with who holds the lock, before waiting for it; None: do not wait (`Busy`).

    Raises:
        Unreachable, NoSpace, DamagedThere, NotThere, Busy, SocratesError: see `copy_verified` and `hold_lock`.
    """
    if lock_is_held(target.parent / TRAINING_LOCK):
        raise Busy(f"{target.parent}: a training on this machine writes there; nothing is put there meanwhile")
    staging = target.parent / PARTIAL / target.name
    lock_file = staging.with_name(f"{target.name}.lock")
    with hold_lock(lock_file, f"{target} is being fetched by another process", waits) as lock:
        data = _manifest_there(instance, source, manifest_sha256)
        sha256 = hashlib.sha256(data).hexdigest()
        state = local_state(target, sha256)
        if state.is_enough(light=light):
            return False
        if state.kind == DAMAGED:
            with local_errors(target):
                moved(f"{target} was damaged ({state.reason}); moved to {set_aside(target)}")
        with local_errors(staging):
            manifest = _stage_manifest(staging, data)
            if manifest.step != checkpoint_step(target):
                raise SocratesError(f"{source}/{MANIFEST}: is of step {manifest.step}")
            if light:
                manifest = _light_manifest(manifest, sha256)
            if state.kind == LIGHT:
                _reuse(target, staging, manifest)
        starting()
        copy_verified(instance, source, manifest, staging, lock)
        if manifest.left_out:  # else it is the instance's, byte for byte, and there already
            write_json(staging / MANIFEST, manifest_record(manifest))
        with local_errors(target):
            _put_in_place(staging, target, state.kind, moved)
        return True


def missing_checkpoints(instance: Instance, models: Path) -> list[str]:
    """One line for each complete checkpoint on an instance that is not here intact, and for a training that runs there.

    Raises:
        Unreachable, SocratesError: it is unknown, and why.
    """
    lines = []
    trained = list_trainings(instance)
    if trained:
        lines.append(f"a training runs on the instance: {', '.join(trained)}")
    words = {ABSENT: "is not here", DAMAGED: "is damaged here", OTHER: "is not here: another run's has its place"}
    for checkpoint in filter(lambda found: found.is_complete, read_listing(instance)):
        state = local_state(checkpoint.place(models), checkpoint.manifest_sha256)
        if not state.intact:
            reason = f": {state.reason}" if state.reason else ""
            lines.append(f"{checkpoint.run}/{checkpoint.name} {words[state.kind]}{reason}")
    return lines


def _manifest_there(instance: Instance, source: str, listed_sha256: str | None) -> bytes:
    """The instance's manifest; NotThere if there is none, or not the one that was listed."""
    data = read_remote_manifest(instance, source)
    if data is None:
        raise NotThere(
            f"instance {instance.id}: {source} has no {MANIFEST}: it is not finished, no longer there, or other "
            "software's, whose files `tnr scp` takes by name"
        )
    if listed_sha256 not in (None, hashlib.sha256(data).hexdigest()):
        raise NotThere(f"instance {instance.id}: {source} is being written again; looked at again later")
    return data


def _stage_manifest(staging: Path, data: bytes) -> Manifest:
    staging.mkdir(parents=True, exist_ok=True)
    (staging / MANIFEST).unlink(missing_ok=True)  # never through a link
    (staging / MANIFEST).write_bytes(data)
    return read_manifest(staging)


def _light_manifest(manifest: Manifest, source_sha256: str) -> Manifest:
    left_out = tuple(path for path in manifest.files if path not in LIGHT_FILES)
    if not left_out:
        return manifest
    files = {path: entry for path, entry in manifest.files.items() if path in LIGHT_FILES}
    return replace(manifest, files=files, left_out=left_out, source_sha256=source_sha256)


def _reuse(target: Path, staging: Path, manifest: Manifest) -> None:
    """Take what a light copy here holds, so that only the rest is fetched."""
    for path in read_manifest(target).files:
        if path in manifest.files and not os.path.lexists(staging / path):
            (staging / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(target / path, staging / path)


def _put_in_place(staging: Path, target: Path, before: str, moved: Callable[[str], None]) -> None:
    aside = set_aside(target) if os.path.lexists(target) else None
    staging.rename(target)
    sync_folder(target.parent)
    sync_folder(staging.parent)
    if aside and before == LIGHT:  # the same bytes are in the complete one
        with suppress(OSError):
            shutil.rmtree(aside)
    elif aside:
        moved(f"{target} is another run's; moved to {aside}")
