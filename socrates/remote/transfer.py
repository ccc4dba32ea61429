"""Verified transfer: the files of a manifest, from a folder on an instance into a staging folder here.

Covers: only what the plan lists is asked for; every file's size and SHA-256 are checked after it arrived, and all is
flushed to disk; a copy that was broken off goes on with what verifies of it; what is in the staging folder and not in
the plan is removed. A file that arrives wrong twice is compared with the instance's own: damaged there, or on the way.
Does not cover: putting the folder in its place, and keeping others away meanwhile (`fetch.py`).
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from socrates.checkpoint import GUIDE_FILES, MANIFEST, TRAINING_CONFIG, TRAINING_DATA, Manifest, read_manifest
from socrates.errors import SocratesError
from socrates.files import sync_folder
from socrates.remote.instance import Instance, Unreachable
from socrates.remote.listing import RemoteFile, inspect_files, read_remote_manifest, sha256_bytes
from socrates.remote.local import DigestMemory, NoSpace, local_errors

RSYNC_PARTIAL = ".rsync-partial"  # where `tnr scp` keeps a part of a file, to go on with it
# The guide's five files, and what evaluation reads besides (some KB).
LIGHT_FILES = (*GUIDE_FILES, TRAINING_CONFIG, TRAINING_DATA)
_PART = re.compile(r"[A-Za-z0-9._+@=-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILES_LIMIT = 20_000
_FILES_A_CALL = 400  # paths in one command line


class NotThere(SocratesError):
    """The checkpoint is not, or no longer, on the instance."""


class DamagedThere(SocratesError):
    """The instance's own files do not match its manifest.

    Attributes:
        files: what the instance said of the files that do not match; while that stays the same, so does the damage.
    """

    def __init__(self, message: str, files: dict[str, RemoteFile | None]) -> None:
        super().__init__(message)
        self.files = {path: file and file._replace(sha256=None) for path, file in files.items()}


@dataclass(frozen=True)
class TransferPlan:
    """What a copy consists of.

    Attributes:
        source: the folder on the instance.
        manifest: what is copied.
        source_manifest: the instance's manifest as it is there.
    """

    source: str
    manifest: Manifest
    source_manifest: bytes


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


def plan_from_manifest(source: str, data: bytes, step: int, staging: Path, *, light: bool) -> TransferPlan:
    """What to copy, by the instance's manifest; for a light copy only LIGHT_FILES.

    Raises:
        SocratesError: the manifest is malformed, of another step, or lists what is not taken from another machine.
    """
    with local_errors(staging):
        staging.mkdir(parents=True, exist_ok=True)
        (staging / MANIFEST).unlink(missing_ok=True)
        (staging / MANIFEST).write_bytes(data)
    manifest = read_manifest(staging)
    check_manifest(manifest, step, f"{source}/{MANIFEST}")
    left_out = tuple(path for path in manifest.files if path not in LIGHT_FILES) if light else ()
    if left_out:
        files = {path: entry for path, entry in manifest.files.items() if path in LIGHT_FILES}
        manifest = replace(manifest, files=files, left_out=left_out, source_sha256=sha256_bytes(data))
    return TransferPlan(source, manifest, data)


def copy_verified(
    instance: Instance,
    plan: TransferPlan,
    staging: Path,
    *,
    lock: int,
    digests: DigestMemory,
    starting: Callable[[int], None] = lambda size: None,
) -> int:
    """Bring all files of a plan into the staging folder and verify each; returns the bytes fetched.

    Args:
        instance: where they are.
        plan: what is copied.
        staging: the folder here; files in it that verify are kept, all else goes.
        lock: descriptor that the copying processes inherit (`working_on`).
        digests: remembers what was read.
        starting: called, once, with how many bytes are to be fetched.

    Raises:
        Unreachable: the connection was lost; call again to go on.
        NoSpace: the disk here does not hold them.
        DamagedThere: the instance's own files do not match its manifest.
        NotThere: the checkpoint was deleted meanwhile.
        SocratesError: something cannot be copied or written, and why.
    """
    files = plan.manifest.files

    def verified(path: str) -> bool:
        return _matches(staging / path, files[path], digests)

    with local_errors(staging):
        waiting = _clear(staging, files, verified)
    size = sum(files[path][0] for path in waiting)
    _check_space(staging, size)
    starting(size)
    failure: SocratesError | None = None
    for _ in range(2):
        if not waiting:
            break
        _check_space(staging, sum(files[path][0] for path in waiting))
        failure = _fetch(instance, plan.source, waiting, staging, lock) or failure
        with local_errors(staging):
            waiting = _clear(staging, files, verified)
    if waiting:
        _check_space(staging, sum(files[path][0] for path in waiting))
        raise (
            _explain(instance, plan, waiting)
            or failure
            or SocratesError(f"{waiting[0]} arrived damaged twice; it is fetched again later")
        )
    with local_errors(staging):
        _clear(staging, files, lambda path: True, keep_partial=False)
        _flush(staging)
    return size


def _fetch(instance: Instance, source: str, waiting: Sequence[str], staging: Path, lock: int) -> SocratesError | None:
    failure = None
    for folder, names in _by_folder(waiting):
        with local_errors(staging):
            (staging / folder).mkdir(parents=True, exist_ok=True)
        try:
            instance.fetch([f"{source}/{folder}{name}" for name in names], staging / folder, pass_fds=[lock])
        except Unreachable:
            raise
        except SocratesError as error:  # one file of several, perhaps: what arrived is looked at
            failure = error
    return failure


def _by_folder(paths: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Paths as (folder with its slash, or nothing; names in it), some hundred names at a time."""
    folders: dict[str, list[str]] = {}
    for path in paths:
        folder, slash, name = path.rpartition("/")
        folders.setdefault(folder + slash, []).append(name)
    for folder, names in folders.items():
        for start in range(0, len(names), _FILES_A_CALL):
            yield folder, names[start : start + _FILES_A_CALL]


def _explain(instance: Instance, plan: TransferPlan, wrong: Sequence[str]) -> SocratesError | None:
    """Why files arrive wrong again and again, if the reason lies on the instance."""
    if read_remote_manifest(instance, plan.source) != plan.source_manifest:
        return NotThere(f"instance {instance.id}: {plan.source} was deleted or written again while it was copied")
    there = inspect_files(instance, plan.source, wrong, digests=True)
    bad = {}
    for path, file in there.items():
        size, sha256 = plan.manifest.files[path]
        if file is None or (file.size, file.sha256) != (size, sha256):
            bad[path] = file
    if not bad:
        return None
    first, file = next(iter(bad.items()))
    what = "is missing there" if file is None else "does not match the manifest there"
    more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
    return DamagedThere(f"damaged on the instance: {first} {what}{more}", bad)


def _clear(
    staging: Path, files: dict[str, tuple[int, str]], verified: Callable[[str], bool], *, keep_partial: bool = True
) -> list[str]:
    """Remove whatever is no verified file of the list; returns the list's other files.

    A file that does not verify must go before it is fetched again: rsync would trust its size and time.
    """
    folders = {str(parent) for path in files for parent in PurePosixPath(path).parents}
    have = set()
    for folder, subfolders, names in os.walk(staging):
        inside = PurePosixPath(Path(folder).relative_to(staging).as_posix())
        for name in list(subfolders):
            if keep_partial and name == RSYNC_PARTIAL:
                subfolders.remove(name)
            elif str(inside / name) not in folders or (Path(folder) / name).is_symlink():
                subfolders.remove(name)
                _remove(Path(folder) / name)
        for name in names:
            path = str(inside / name)
            if path in files and verified(path):
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


def _check_space(staging: Path, needed: int) -> None:
    """NoSpace unless the disk holds that many bytes more, and a little besides for logs and the manifest."""
    with local_errors(staging):
        usage = shutil.disk_usage(staging)
    reserve = min(256 * 2**20, usage.total // 50)
    if needed + reserve > usage.free:
        for partial in staging.rglob(RSYNC_PARTIAL):  # worth less than room
            with suppress(OSError):
                shutil.rmtree(partial)
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
