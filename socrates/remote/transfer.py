"""Verified transfer: the files of a manifest, from a folder on an instance into a staging folder here.

Covers: only what the manifest lists is asked for; every file's size and SHA-256 are checked after it arrived, and all
is flushed to disk; a copy that was broken off goes on with what verifies of it; what is in the staging folder and not
in the manifest is removed. A file that arrives wrong twice is compared with the instance's own: damaged there, or on
the way.
Does not cover: putting the folder in its place, and keeping others away meanwhile (`fetch.py`).
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from socrates.checkpoint import GUIDE_FILES, MANIFEST, TRAINING_CONFIG, TRAINING_DATA, Manifest
from socrates.errors import SocratesError
from socrates.files import sync_folder
from socrates.remote.instance import Instance, Unreachable
from socrates.remote.listing import read_remote_manifest, remote_digests
from socrates.remote.local import DigestMemory, NoSpace, local_errors

RSYNC_PARTIAL = ".rsync-partial"  # where `tnr scp` keeps a part of a file, to go on with it
# The guide's five files, and what evaluation reads besides (some KB).
LIGHT_FILES = (*GUIDE_FILES, TRAINING_CONFIG, TRAINING_DATA)
_PART = re.compile(r"[A-Za-z0-9._+@=-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILES_LIMIT = 1000  # some are one command line; 64 ranks save about 200
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


def check_manifest(manifest: Manifest, step: int, where: str) -> None:
    """SocratesError unless a manifest from an instance lists plain names, sizes and digests, and is of this step."""
    if manifest.step != step:
        raise SocratesError(f"{where}: is of step {manifest.step}, not of step {step}")
    if len(manifest.files) > _FILES_LIMIT:
        raise SocratesError(f"{where}: lists {len(manifest.files)} files; {_FILES_LIMIT} at most are taken")
    for path, (size, sha256) in manifest.files.items():
        if not is_plain_path(path):
            raise SocratesError(f"{where}: lists a name that is not taken from another machine: {path[:120]!r}")
        if size < 0 or not _SHA256.fullmatch(sha256):
            raise SocratesError(f"{where}: lists {path} with a size or SHA-256 that cannot be one")


def is_plain_path(path: str) -> bool:
    """Whether a path from an instance may be used here: plain names, inside the folder, none that we use ourselves."""
    parts = path.split("/")
    return (
        all(_PART.fullmatch(part) and part not in (".", "..", RSYNC_PARTIAL) for part in parts)
        and path != MANIFEST
        and len(path) <= 1000
    )


def copy_verified(
    instance: Instance,
    source: str,
    manifest: Manifest,
    staging: Path,
    *,
    lock: int,
    digests: DigestMemory,
    starting: Callable[[int], None],
) -> None:
    """Bring all files of a manifest into the staging folder and verify each.

    Args:
        instance: where they are.
        source: the folder there, which holds the manifest.
        manifest: what is copied; checked before (`check_manifest`).
        staging: the folder here, which holds the instance's manifest; files in it that verify are kept, all else goes.
        lock: descriptor that the copying processes inherit (`hold_lock`).
        digests: remembers what was read.
        starting: called, once, with how many bytes are to be fetched.

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
            waiting = _clear(staging, files, digests)
        size = sum(files[path][0] for path in waiting)
        _check_space(staging, size)  # without room, files arrive wrong
        if attempt == 0:
            starting(size)
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
    folders: dict[Path, list[str]] = {}
    for path in waiting:
        folders.setdefault((staging / path).parent, []).append(f"{source}/{path}")
    failure = None
    for folder, sources in folders.items():
        with local_errors(staging):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            instance.fetch(sources, folder, pass_fds=[lock])
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
    more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
    return DamagedThere(f"damaged on the instance: {first} {what}{more}", bad)


def _clear(staging: Path, files: dict[str, tuple[int, str]], digests: DigestMemory) -> list[str]:
    """Remove whatever is no verified file of the list; returns the list's other files.

    A file that does not verify must go before it is fetched again: rsync would trust its size and time.
    """
    folders = {str(parent) for path in files for parent in PurePosixPath(path).parents}
    have = set()
    for folder, subfolders, names in os.walk(staging):
        inside = PurePosixPath(Path(folder).relative_to(staging).as_posix())
        for name in list(subfolders):
            if name == RSYNC_PARTIAL:
                subfolders.remove(name)
            elif str(inside / name) not in folders or (Path(folder) / name).is_symlink():
                subfolders.remove(name)
                _remove(Path(folder) / name)
        for name in names:
            path = str(inside / name)
            if path in files and _matches(staging / path, files[path], digests):
                have.add(path)
            elif path != MANIFEST:
                _remove(Path(folder) / name)
    return [path for path in files if path not in have]


def _matches(path: Path, entry: tuple[int, str], digests: DigestMemory) -> bool:
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_size == entry[0] and digests.sha256(path) == entry[1]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _remove_partial(staging: Path) -> None:
    for partial in list(staging.rglob(RSYNC_PARTIAL)):
        _remove(partial)


def _check_space(staging: Path, needed: int) -> None:
    """NoSpace unless the disk holds that many bytes more, and a little besides for logs and the manifest."""
    with local_errors(staging):
        usage = shutil.disk_usage(staging)
    reserve = min(256 * 2**20, usage.total // 50)
    if needed + reserve > usage.free:
        with suppress(OSError):  # worth less than room
            _remove_partial(staging)
        usage = shutil.disk_usage(staging)
    if needed and needed + reserve > usage.free:
        raise NoSpace(
            f"the disk is full: needs {_size(needed + reserve)}, {_size(usage.free)} free in {staging.parent.parent}"
        )


def _size(count: int) -> str:
    return f"{count / 10**9:.1f} GB" if count >= 10**9 else f"{count / 10**6:.1f} MB"


def _flush(folder: Path) -> None:
    for inside, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(Path(inside) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(inside))
