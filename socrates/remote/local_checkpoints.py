"""The checkpoints that are here: what state a folder is in, and who works on it.

Covers: the state is found by reading the files themselves, never a list that could disagree with them; what was read
once in a process is not read again while size, times and inode stay the same; one process at a time works on a
checkpoint, also where a transfer outlives the program that started it.
Does not cover: a disk that changes bytes without changing a file's times, within one process.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from socrates.checkpoint import MANIFEST, checkpoint_step, find_damage, read_manifest
from socrates.errors import SocratesError
from socrates.files import lock_is_held, sha256_file, try_lock

PARTIAL = ".partial"  # beside the checkpoints of a run: what is being fetched
TRAINING_LOCK = ".training.lock"
ABSENT, WHOLE, LIGHT, DAMAGED, OTHER = "absent", "whole", "light", "damaged", "other"


class Busy(SocratesError):
    """Another process works on this checkpoint."""


class NoSpace(SocratesError):
    """The disk here is full; the same call succeeds once there is room."""


@dataclass(frozen=True)
class LocalCheckpoint:
    """A folder `checkpoint-N` here.

    Attributes:
        path: the folder.
        kind: ABSENT, WHOLE, LIGHT (intact, but files were left on the instance), DAMAGED, or OTHER (intact, but not
            what the instance has under this name).
        reason: the first thing wrong with a damaged one; else None.
    """

    path: Path
    kind: str
    reason: str | None = None

    @property
    def intact(self) -> bool:
        """Whether every byte that its manifest lists is there, and it is the instance's checkpoint."""
        return self.kind in (WHOLE, LIGHT)


class DigestMemory:
    """SHA-256 of files, remembered while device, inode, size and both times of a file stay the same."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], str] = {}

    def sha256(self, path: Path) -> str:
        """SHA-256 of a file's bytes."""
        before = _identity(path)
        if before not in self._known:
            digest = sha256_file(path)
            if _identity(path) != before:
                return digest  # it is being written to: nothing to remember
            self._known[before] = digest
        return self._known[before]


def local_state(
    folder: Path, manifest_sha256: str | None = None, digest: Callable[[Path], str] = sha256_file
) -> LocalCheckpoint:
    """In what state a checkpoint's folder here is; reads every byte that its manifest lists.

    Args:
        folder: models/RUN/checkpoint-N, which need not exist.
        manifest_sha256: SHA-256 of the instance's manifest; None where it is not known: nothing is OTHER then.
        digest: gives a file's SHA-256 (`DigestMemory.sha256`).
    """
    if not os.path.lexists(folder):
        return LocalCheckpoint(folder, ABSENT)
    damage = find_damage(folder, digest=digest)
    if damage is not None:
        return LocalCheckpoint(folder, DAMAGED, damage)
    manifest = read_manifest(folder)
    if manifest_sha256 is not None:
        if sha256_file(folder / MANIFEST) == manifest_sha256:
            return LocalCheckpoint(folder, WHOLE)
        if manifest.source_sha256 != manifest_sha256:
            return LocalCheckpoint(folder, OTHER)
    return LocalCheckpoint(folder, LIGHT if manifest.left_out else WHOLE)


def local_checkpoints(run_folder: Path, digest: Callable[[Path], str] = sha256_file) -> dict[int, LocalCheckpoint]:
    """Every folder `checkpoint-N` of a run here, by step; reads every byte."""
    folders = [p for p in run_folder.iterdir() if checkpoint_step(p) is not None] if run_folder.is_dir() else []
    return {checkpoint_step(p) or 0: local_state(p, digest=digest) for p in sorted(folders)}


def trains_here(run_folder: Path) -> bool:
    """Whether a training on this machine writes into a run's folder: then nothing is put there."""
    return lock_is_held(run_folder / TRAINING_LOCK) is True


@contextmanager
def working_on(target: Path, waits: Callable[[str], None] | None = None) -> Iterator[int]:
    """Hold the lock of a checkpoint that is fetched; yields the descriptor, for the processes that copy to inherit.

    The kernel frees the lock when the last process that holds the descriptor is gone: a transfer that outlives us
    still keeps others away from the files that it writes.

    Args:
        target: models/RUN/checkpoint-N, which need not exist.
        waits: told, once, who holds the lock, before waiting for it; None: do not wait.

    Raises:
        Busy: another process holds it, and ``waits`` is None.
        SocratesError, NoSpace: the lock file cannot be made.
    """
    path = target.parent / PARTIAL / f"{target.name}.lock"
    with local_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(path, f"{target} is being fetched by another process", waits) as descriptor:
        yield descriptor


@contextmanager
def hold_lock(path: Path, taken: str, waits: Callable[[str], None] | None = None) -> Iterator[int]:
    """Hold a lock file with our process id in it; yields its descriptor. See `working_on`; ``taken`` is the message."""
    with local_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not try_lock(descriptor):
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "process unknown"
            message = f"{taken} ({holder})"
            if waits is None:
                raise Busy(message)
            waits(message)
            while not try_lock(descriptor):
                pass
        with suppress(OSError):  # a full disk: the lock holds without its text
            os.ftruncate(descriptor, 0)
            since = datetime.now().astimezone().isoformat(timespec="seconds")
            os.pwrite(descriptor, f"process {os.getpid()} since {since}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def local_errors(path: Path) -> Iterator[None]:
    """Turn what the disk here refuses into NoSpace or SocratesError, with the path."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{where}: no space left on this disk") from error
        raise SocratesError(f"{where}: {error.strerror or error}") from error


def _identity(path: Path) -> tuple[int, ...]:
    s = path.stat()
    return (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
