"""Fetching checkpoints from an instance: copied, verified, and only then under their name.

Covers: `checkpoint-N` appears by one rename once every byte is verified and on disk; what stood there before is moved
to `set-aside/`, never written over; two processes at once, a kill at any moment and a transfer that outlives its
program do no harm.
Does not cover: when to look, and what to say (`monitor.py`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from socrates.checkpoint import MANIFEST, Manifest, checkpoint_step, manifest_record, read_manifest, set_aside
from socrates.errors import SocratesError
from socrates.files import sync_folder, write_json
from socrates.remote.instance import Instance
from socrates.remote.listing import (
    Listing,
    RemoteCheckpoint,
    list_trainings,
    read_listing,
    read_remote_manifest,
    sha256_bytes,
)
from socrates.remote.local import (
    ABSENT,
    COMPLETE,
    DAMAGED,
    LIGHT,
    OTHER,
    PARTIAL,
    DigestMemory,
    LocalCheckpoint,
    is_training_locally,
    local_errors,
    local_state,
    working_on,
)
from socrates.remote.transfer import NotThere, TransferPlan, copy_verified, plan_from_manifest


@dataclass(frozen=True)
class Reports:
    """What a copy reports while it runs.

    Attributes:
        starting: the bytes that will be fetched, before the first of them.
        moved: a sentence about something that was moved out of the way.
        waits: who holds the lock, before waiting for it; None: do not wait (`Busy`).
    """

    starting: Callable[[int], None] = lambda size: None
    moved: Callable[[str], None] = lambda sentence: None
    waits: Callable[[str], None] | None = None


@dataclass(frozen=True)
class Fetched:
    """What came of a copy: whether anything was fetched, and what is here now."""

    fetched: bool
    manifest: Manifest | None = None


def local_place(models: Path, checkpoint: RemoteCheckpoint) -> Path:
    """Where an instance's checkpoint is kept here."""
    return models / checkpoint.run / checkpoint.name


def is_enough(state: LocalCheckpoint, *, light: bool) -> bool:
    """Whether what is here is what was asked for."""
    return state.kind == COMPLETE or (light and state.kind == LIGHT)


def fetch_checkpoint(
    instance: Instance,
    source: str,
    target: Path,
    *,
    manifest_sha256: str | None = None,
    light: bool = False,
    digests: DigestMemory | None = None,
    reports: Reports | None = None,
) -> Fetched:
    """Bring a checkpoint from an instance to its place here, verified, unless it is there intact.

    Args:
        instance: where it is.
        source: its folder there, relative to the home folder or absolute.
        target: its folder here, named checkpoint-N.
        manifest_sha256: SHA-256 of the instance's manifest as it was listed; None: as it is now.
        light: LIGHT_FILES only; a complete one that is here is kept.
        digests: remembers what was read here.
        reports: what to tell meanwhile.

    Raises:
        Unreachable, NoSpace, DamagedThere, NotThere, Busy, SocratesError: see `copy_verified` and `working_on`.
    """
    digests, reports = digests or DigestMemory(), reports or Reports()
    step = checkpoint_step(target)
    if step is None:
        raise SocratesError(f"{target}: a checkpoint's folder must be named checkpoint-N")
    if is_training_locally(target.parent):
        raise SocratesError(f"{target.parent}: a training on this machine writes there; nothing is put there meanwhile")
    staging = target.parent / PARTIAL / target.name
    with working_on(target, reports.waits) as lock:
        with local_errors(target):
            _finish_swap(target)
        data = read_remote_manifest(instance, source)
        if data is None:
            raise NotThere(
                f"instance {instance.id}: {source} has no {MANIFEST}: it is not finished, or no longer there; of other "
                "software's folders `tnr scp` takes files by name"
            )
        if manifest_sha256 not in (None, sha256_bytes(data)):
            raise NotThere(f"instance {instance.id}: {source} is being written again; looked at again later")
        state = local_state(target, sha256_bytes(data), digests.sha256)
        if is_enough(state, light=light):
            return Fetched(False, read_manifest(target))
        if state.kind == DAMAGED:
            with local_errors(target):
                reports.moved(f"{target} was damaged ({state.reason}); moved to {set_aside(target)}")
        plan = plan_from_manifest(source, data, step, staging, light=light)
        with local_errors(staging):
            staging.mkdir(parents=True, exist_ok=True)
            if state.kind == LIGHT:
                _reuse(target, staging, plan)
        copy_verified(instance, plan, staging, lock=lock, digests=digests, starting=reports.starting)
        if plan.manifest.left_out:  # else it is the instance's, byte for byte, and there already
            write_json(staging / MANIFEST, manifest_record(plan.manifest))
        with local_errors(target):
            _put_in_place(staging, target, state.kind, reports)
        return Fetched(True, plan.manifest)


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
    for checkpoint in read_listing(instance).complete():
        state = local_state(local_place(models, checkpoint), checkpoint.manifest_sha256)
        if not state.intact:
            reason = f": {state.reason}" if state.reason else ""
            lines.append(f"{checkpoint.run}/{checkpoint.name} {words[state.kind]}{reason}")
    return lines


def runs_holding(listing: Listing, step: int) -> list[RemoteCheckpoint]:
    """The folders of that step on an instance, of all runs, complete or not."""
    return [steps[step] for _, steps in sorted(listing.runs.items()) if step in steps]


def _reuse(target: Path, staging: Path, plan: TransferPlan) -> None:
    """Take what a light copy here holds, so that only the rest is fetched: a second name for the same bytes."""
    for path in read_manifest(target).files:
        if path in plan.manifest.files and not os.path.lexists(staging / path):
            (staging / path).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(target / path, staging / path)
            except OSError:  # a disk without hard links
                shutil.copyfile(target / path, staging / path)


def _put_in_place(staging: Path, target: Path, before: str, reports: Reports) -> None:
    aside = _swapped(target)
    if before == LIGHT:
        target.rename(aside)
    elif os.path.lexists(target):
        reports.moved(f"{target} is another run's; moved to {set_aside(target)}")
    staging.rename(target)
    sync_folder(target.parent)
    sync_folder(staging.parent)
    with suppress(OSError):
        shutil.rmtree(aside)


def _finish_swap(target: Path) -> None:
    """After a kill between the two renames of a swap: the light copy back in its place, or gone if it is replaced."""
    aside = _swapped(target)
    if not os.path.lexists(aside):
        return
    if os.path.lexists(target):
        shutil.rmtree(aside)
    else:
        aside.rename(target)


def _swapped(target: Path) -> Path:
    return target.parent / PARTIAL / f"{target.name}.light"
