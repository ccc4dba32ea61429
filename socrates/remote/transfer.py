"""Verified transfer: the files of a manifest, from a folder on an instance into a staging folder here.

Covers: only what the manifest lists is asked for; every file's size and SHA-256 are checked after it arrived, and all
is flushed to disk; a copy that was broken off goes on with what verifies of it; all else in the staging folder goes. A
file that arrives wrong twice is compared with the instance's own: damaged there, or on the way.
Does not cover: putting the folder in its place, and keeping others away meanwhile (`fetch.py`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath

from socrates.checkpoint import MANIFEST, RSYNC_PARTIAL, Manifest
from socrates.errors import SocratesError
from socrates.files import sync_folder
from socrates.remote.instance import Instance, Unreachable
from socrates.remote.listing import read_remote_manifest, remote_digests
from socrates.remote.local import NoSpace, known_sha256, local_errors

_ATTEMPTS = 2


class NotThere(SocratesError):
    """The checkpoint is not, or no longer, on the instance."""


class DamagedThere(SocratesError):
    """The instance's own files do not match its manifest.

    Attributes:
        files: their SHA-256 there, None for one that is missing; while these stay the same, so does the damage.
    """

    def __init__(self, message: str, files: dict[str, str | None]) -> None:
        super().__init__(message)
        self.files = files


def copy_verified(instance: Instance, source: str, manifest: Manifest, staging: Path, lock: int) -> None:
    """Bring all files of a manifest into the staging folder and verify each.

    Args:
        instance: where they are.
        source: the folder there, which holds the manifest.
        manifest: what is copied.
        staging: the folder here, which holds the instance's manifest; files in it that verify are kept, all else goes.
        lock: descriptor that the copying processes inherit (`hold_lock`).

    Raises:
        Unreachable: the connection was lost; call again to go on.
        NoSpace: the disk here does not hold them.
        DamagedThere: the instance's own files do not match its manifest.
        NotThere: the checkpoint was deleted meanwhile.
        SocratesError: something cannot be copied or written, and why.
    """
    files = manifest.files
    failure: SocratesError | None = None
    for attempt in range(_ATTEMPTS + 1):
        with local_errors(staging):
            waiting = _clear(staging, files)
            _check_space(staging, sum(files[path][0] for path in waiting))  # without room, files arrive wrong
        if not waiting:
            break
        if attempt == _ATTEMPTS:
            again = SocratesError(f"{waiting[0]} arrived damaged twice; it is fetched again later")
            raise _explain(instance, source, files, staging, waiting) or failure or again
        failure = _fetch(instance, source, waiting, staging, lock) or failure
    with local_errors(staging):
        _remove_partial(staging)
        _flush(staging)


def _fetch(instance: Instance, source: str, waiting: Sequence[str], staging: Path, lock: int) -> SocratesError | None:
    failure = None
    for folder, paths in groupby(sorted(waiting, key=os.path.dirname), os.path.dirname):
        with local_errors(staging):
            (staging / folder).mkdir(parents=True, exist_ok=True)
        try:
            instance.fetch([f"{source}/{path}" for path in paths], staging / folder, pass_fds=[lock])
        except Unreachable:
            raise
        except SocratesError as error:  # one file of several, perhaps: what arrived is looked at
            failure = error
    return failure


def _explain(
    instance: Instance, source: str, files: dict[str, tuple[int, str]], staging: Path, wrong: Sequence[str]
) -> SocratesError | None:
    """Why files arrive wrong again and again, if the reason lies on the instance."""
    if read_remote_manifest(instance, source) != (staging / MANIFEST).read_bytes():
        return NotThere(f"instance {instance.id}: {source} was deleted or written again while it was copied")
    there = remote_digests(instance, source, wrong)
    bad = {path: sha256 for path, sha256 in there.items() if sha256 != files[path][1]}
    if not bad:
        return None
    first, sha256 = next(iter(bad.items()))
    what = "is missing there" if sha256 is None else "does not match the manifest there"
    return DamagedThere(f"damaged on the instance: {first} {what}", bad)


def _clear(staging: Path, files: dict[str, tuple[int, str]]) -> list[str]:
    """Remove whatever is no verified file of the list; returns the list's other files.

    A file that does not verify must go before it is fetched again: rsync would trust its size and time.
    """
    folders = {str(parent) for path in files for parent in PurePosixPath(path).parents}
    have = set()
    for path in sorted(staging.rglob("*")):  # a folder before what is in it; links are not followed
        name = path.relative_to(staging).as_posix()
        if RSYNC_PARTIAL in path.parts or name == MANIFEST:
            continue
        if path.is_dir() and not path.is_symlink():
            if name not in folders:
                shutil.rmtree(path)
        elif name in files and _matches(path, files[name]):
            have.add(name)
        else:
            path.unlink(missing_ok=True)
    return [path for path in files if path not in have]


def _matches(path: Path, entry: tuple[int, str]) -> bool:
    return (
        path.is_file() and not path.is_symlink() and path.stat().st_size == entry[0] and known_sha256(path) == entry[1]
    )


def _remove_partial(staging: Path) -> None:
    for partial in list(staging.rglob(RSYNC_PARTIAL)):
        shutil.rmtree(partial)


def _check_space(staging: Path, needed: int) -> None:
    """NoSpace unless the disk holds that many bytes more, and a little besides for logs and the manifest."""
    usage = shutil.disk_usage(staging)
    size = needed + min(256 * 2**20, usage.total // 50)
    if not needed or size <= usage.free:
        return
    _remove_partial(staging)  # worth less than room
    free = shutil.disk_usage(staging).free
    if size > free:
        raise NoSpace(
            f"the disk is full: needs {size / 1e9:.1f} GB, {free / 1e9:.1f} GB free in {staging.parent.parent}"
        )


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)
