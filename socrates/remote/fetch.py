"""Fetching checkpoints from an instance: copied, verified, and only then under their name.

Covers: only what the manifest lists is asked for; `checkpoint-N` appears by one rename once every byte is verified and
on disk; what stood there before is moved to `set-aside/`, never written over; two processes at once, a kill at any
moment and a transfer that outlives its program do no harm; a copy that was broken off goes on with what verifies of it.
Does not cover: when to look, and what to say (`monitor.py`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from pathlib import Path, PurePosixPath

from socrates.checkpoint import (
    GUIDE_FILES,
    MANIFEST,
    RSYNC_PARTIAL,
    SET_ASIDE,
    TRAINING_CONFIG,
    TRAINING_DATA,
    Manifest,
    checkpoint_step,
    manifest_record,
    read_manifest,
    set_aside,
)
from socrates.errors import SocratesError
from socrates.files import Busy, lock_is_held, remove_tree, sync_folder, take_lock, write_json
from socrates.remote.instance import Instance, Unreachable
from socrates.remote.listing import list_folders, list_trainings, read_remote_manifest, remote_digests
from socrates.remote.local import ABSENT, DAMAGED, LIGHT, OTHER, NoSpace, known_sha256, local_errors, local_state
from socrates.remote.logs import fetch_logs

# The guide's five files, and what evaluation reads besides (some KB).
LIGHT_FILES = (*GUIDE_FILES, TRAINING_CONFIG, TRAINING_DATA)
_ATTEMPTS = 2
_SLACK = 64 * 2**20  # bytes


class DamagedThere(SocratesError):
    """The instance's own files do not match its manifest.

    Attributes:
        files: their SHA-256 there, None for one that is missing; while these stay the same, so does the damage.
    """

    def __init__(self, message: str, files: dict[str, str | None]) -> None:
        super().__init__(message)
        self.files = files


def fetch_checkpoint(
    instance: Instance,
    source: str,
    target: Path,
    *,
    starting: Callable[[], None],
    say: Callable[[str], None],
    light: bool = False,
    wait: bool = True,
) -> bool:
    """Bring a checkpoint from an instance to its place here, verified; False if it is there intact already.

    Args:
        instance: where it is.
        source: its folder there, relative to the home folder or absolute.
        target: its folder here, named checkpoint-N.
        starting: called before the first byte is fetched.
        say: called with a sentence about what was moved out of the way, or is waited for.
        light: LIGHT_FILES only; a complete one that is here is kept.
        wait: for another process that fetches it; else `Busy`.

    Raises:
        Unreachable: the connection was lost; call again to go on.
        NoSpace: the disk here does not hold it.
        DamagedThere: the instance's own files do not match its manifest.
        Busy: another process works on it.
        SocratesError: it is not there, or cannot be copied or written, and why.
    """
    if lock_is_held(target.parent / ".training.lock"):
        raise Busy(f"{target.parent}: a training on this machine writes there; nothing is put there meanwhile")
    staging = target.parent / ".partial" / target.name
    lock_file = staging.with_name(f"{target.name}.lock")
    taken = f"{target} is being fetched by another process"
    with local_errors(target), take_lock(lock_file, taken, waits=say if wait else None) as lock:
        data = read_remote_manifest(instance, source)
        if data is None:
            raise SocratesError(
                f"instance {instance.id}: {source} has no {MANIFEST}: it is not finished, no longer there, or other "
                "software's, whose files `tnr scp` takes by name"
            )
        sha256 = hashlib.sha256(data).hexdigest()
        state = local_state(target, sha256)
        if state.intact and (light or state.kind != LIGHT):
            return False
        if state.kind == DAMAGED:
            say(f"{target} was damaged ({state.reason}); moved to {set_aside(target)}")
        staging.mkdir(exist_ok=True)
        (staging / MANIFEST).unlink(missing_ok=True)  # never through a link
        (staging / MANIFEST).write_bytes(data)
        manifest = read_manifest(staging)
        if manifest.step != checkpoint_step(target):
            raise SocratesError(f"{source}/{MANIFEST}: is of step {manifest.step}")
        if light:
            manifest = _light_manifest(manifest, sha256)
        starting()
        _copy_verified(instance, source, manifest.files, staging, lock.fileno())
        if manifest.left_out:  # else it is the instance's, byte for byte, and there already
            write_json(staging / MANIFEST, manifest_record(manifest))
        if aside := _put_in_place(staging, target, manifest.files, state.kind == LIGHT):
            say(f"{target} is another run's; moved to {aside}")
        return True


def missing_checkpoints(instance: Instance, models: Path) -> list[str]:
    """A line for each checkpoint and log on an instance that is not here intact, and for a training that runs there.

    Logs are brought by this, too: one that grows for ever must not keep the machine.

    Raises:
        Unreachable, SocratesError: it is unknown, and why.
    """
    lines = []
    if trained := list_trainings(instance):
        lines.append(f"a training runs on the instance: {', '.join(trained)}")
    words = {ABSENT: "is not here", DAMAGED: "is damaged here", OTHER: "is not here: another run's has its place"}
    listing, unnamed = list_folders(instance)
    for checkpoint in listing:
        state = local_state(checkpoint.place(models), checkpoint.manifest_sha256)
        if not checkpoint.is_complete:
            lines.append(f"{checkpoint.run}/{checkpoint.name} has no {MANIFEST}: not finished, or other software's")
        elif not state.intact:
            said = f"{checkpoint.run}/{checkpoint.name} {words[state.kind]}"
            lines.append(": ".join(filter(None, (said, state.reason))))
    return [*lines, *unfetchable(unnamed, models), *fetch_logs(instance, models)]


def unfetchable(unnamed: Iterable[tuple[str, str | None]], models: Path) -> list[str]:
    """A line for each folder that no name leads to (`list_folders`), unless an intact one here has its manifest."""
    here = [path.parent for folder in ("*", f"*/{SET_ASIDE}") for path in models.glob(f"{folder}/*/{MANIFEST}")]
    return [
        f"models/{folder} is not here and has no name to fetch it by: move it there to models/NAME/checkpoint-N "
        "(NAME of letters, digits, dots, - and _)"
        for folder, sha256 in unnamed
        if not (sha256 and any(local_state(path, sha256).intact for path in here))
    ]


def _light_manifest(manifest: Manifest, source_sha256: str) -> Manifest:
    files = {path: entry for path, entry in manifest.files.items() if path in LIGHT_FILES}
    left_out = tuple(path for path in manifest.files if path not in files)
    return replace(manifest, files=files, left_out=left_out, source_sha256=source_sha256) if left_out else manifest


def _copy_verified(
    instance: Instance, source: str, files: dict[str, tuple[int, str]], staging: Path, lock: int
) -> None:
    """Bring a manifest's files into the staging folder; the copying processes inherit the lock."""
    failure: SocratesError | None = None
    for attempt in range(_ATTEMPTS + 1):
        waiting = _clear(staging, files)
        if not waiting:
            break
        _check_space(staging, files, waiting)  # without room, files arrive wrong
        if attempt == _ATTEMPTS:
            again = SocratesError(f"{waiting[0]} arrived damaged twice; it is fetched again later")
            raise _explain(instance, source, files, staging, waiting) or failure or again
        for folder, paths in groupby(sorted(waiting, key=os.path.dirname), os.path.dirname):
            (staging / folder).mkdir(parents=True, exist_ok=True)
            sources = [f"{instance.id}:{source}/{path}" for path in paths]
            try:
                instance.copy(sources, f"{staging / folder}/", [lock], lambda: _refuse_flood(staging, files))
            except Unreachable:
                raise
            except SocratesError as error:  # one file of several, perhaps: what arrived is looked at
                failure = error
                _remove_partial(staging, files)  # a part that grew too large would be gone on with
    _remove_partial(staging, files)


def _refuse_flood(staging: Path, files: dict[str, tuple[int, str]]) -> None:
    """SocratesError where a folder holds clearly more than a list's files, and once more the one that is on its way."""
    sizes = [size for size, _ in files.values()]
    left, folders = sum(sizes) + max(sizes) + _SLACK, [staging]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:  # rsync renames meanwhile
            for entry in entries:
                left -= 4096 + entry.stat(follow_symlinks=False).st_size
                folders += [Path(entry)] * entry.is_dir(follow_symlinks=False)
    if left < 0:
        raise SocratesError("more arrives than the manifest lists: stopped")


def _clear(staging: Path, files: dict[str, tuple[int, str]]) -> list[str]:
    """Remove whatever is no verified file of the list; returns the list's other files.

    A file that does not verify must go before it is fetched again: rsync would trust its size and time.
    """
    have, folders = set(), _folders(staging, files)
    for path in (path for folder in folders if folder.is_dir() for path in folder.iterdir()):
        name, is_link = path.relative_to(staging).as_posix(), path.is_symlink()
        size, sha256 = files.get(name, (None, None))
        if path.is_dir() and not is_link:
            if path not in folders and path.name != RSYNC_PARTIAL:
                remove_tree(path)
        elif not is_link and path.stat().st_size == size and known_sha256(path) == sha256:
            have.add(name)
        elif name != MANIFEST:
            path.unlink()
    return [path for path in files if path not in have]


def _folders(staging: Path, files: Iterable[str]) -> dict[Path, None]:
    """The folders that hold a list's files, each after its parent."""
    return dict.fromkeys(sorted({staging / parent for path in files for parent in PurePosixPath(path).parents}))


def _check_space(staging: Path, files: dict[str, tuple[int, str]], waiting: Sequence[str]) -> None:
    """NoSpace unless the disk holds what is waited for, and a little besides for logs and the manifest."""
    usage = shutil.disk_usage(staging)
    size = sum(files[path][0] for path in waiting) + min(256 * 2**20, usage.total // 50)
    if size > usage.free:
        _remove_partial(staging, files)  # worth less than room: rsync copies it when it goes on with it
        free = shutil.disk_usage(staging).free
        if size > free:
            where = f"{free / 1e9:.1f} GB free in {staging.parent.parent}"
            raise NoSpace(f"the disk is full: needs {size / 1e9:.1f} GB, {where}")


def _remove_partial(staging: Path, files: Iterable[str]) -> None:
    remove_tree(*(folder / RSYNC_PARTIAL for folder in _folders(staging, files)))


def _explain(
    instance: Instance, source: str, files: dict[str, tuple[int, str]], staging: Path, wrong: Sequence[str]
) -> SocratesError | None:
    """Why files arrive wrong again and again, if the reason lies on the instance."""
    if read_remote_manifest(instance, source) != (staging / MANIFEST).read_bytes():
        return SocratesError(f"instance {instance.id}: {source} was deleted or written again while it was copied")
    there = remote_digests(instance, source, wrong)
    bad = {path: sha256 for path, sha256 in there.items() if sha256 != files[path][1]}
    if not bad:
        return None
    first, sha256 = next(iter(bad.items()))
    what = "is missing there" if sha256 is None else "does not match the manifest there"
    return DamagedThere(f"damaged on the instance: {first} {what}", bad)


def _put_in_place(staging: Path, target: Path, files: Iterable[str], is_light: bool) -> Path | None:
    """Give a verified copy its name, flushed to disk; returns where that moved what stood there.

    A light one stays and is completed, the manifest last: at every moment it is the light one or the complete one.
    """
    for path in (*files, MANIFEST):
        with (staging / path).open("rb") as file:
            os.fsync(file.fileno())
    for folder in _folders(staging, files):
        sync_folder(folder)
    aside = set_aside(target) if os.path.lexists(target) and not is_light else None
    if is_light:
        for path in (*files, MANIFEST):
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (staging / path).rename(target / path)
        remove_tree(staging)
    else:
        staging.rename(target)
    for folder in (*_folders(target, files), target.parent, staging.parent):
        sync_folder(folder)
    return aside
