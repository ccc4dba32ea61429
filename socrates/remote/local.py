"""Local state: the checkpoints on this computer and their state, and the record of the monitor.

Covers: a checkpoint's state is found by reading the files themselves, never a list that could disagree with them.
Does not cover: a disk that changes bytes without changing a file's times, within one process.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from socrates.checkpoint import MANIFEST, find_damage, read_manifest
from socrates.errors import SocratesError
from socrates.files import file_identity, lock_is_held, read_json, sha256_file
from socrates.telemetry.reading import read_as

RECORDS = ".monitor"  # in the models folder
ABSENT, COMPLETE, LIGHT, DAMAGED, OTHER = "absent", "whole", "light", "damaged", "other"
_KNOWN: dict[tuple[int, ...], str] = {}


class NoSpace(SocratesError):
    """The disk here is full; the same call succeeds once there is room."""


@dataclass(frozen=True)
class LocalCheckpoint:
    """A folder `checkpoint-N` here.

    Its kind is ABSENT, COMPLETE, LIGHT (intact, but files were left on the instance), DAMAGED, or OTHER (intact, but
    not what the instance has under this name).
    """

    path: Path
    kind: str
    reason: str | None = None  # the first thing wrong with a damaged one

    @property
    def intact(self) -> bool:
        """Whether every byte that its manifest lists is there, and it is the instance's checkpoint."""
        return self.kind in (COMPLETE, LIGHT)


def known_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, read once in a process while device, inode, size and both times stay the same."""
    identity = tuple(file_identity(path).values())  # not its path: it is verified before it gets its name
    if identity not in _KNOWN:
        _KNOWN[identity] = sha256_file(path)
    return _KNOWN[identity]


def local_state(folder: Path, manifest_sha256: str | None = None) -> LocalCheckpoint:
    """In what state a checkpoint's folder here is; reads every byte that its manifest lists (`known_sha256`).

    Args:
        folder: models/RUN/checkpoint-N, which need not exist.
        manifest_sha256: SHA-256 of the instance's manifest; None where it is not known: nothing is OTHER then.
    """
    if not os.path.lexists(folder):
        return LocalCheckpoint(folder, ABSENT)
    damage = find_damage(folder, digest=known_sha256)
    if damage is not None:
        return LocalCheckpoint(folder, DAMAGED, damage)
    manifest = read_manifest(folder)
    here = sha256_file(folder / MANIFEST)
    if manifest_sha256 not in (None, here, manifest.source_sha256):
        return LocalCheckpoint(folder, OTHER)
    return LocalCheckpoint(folder, LIGHT if manifest.left_out and here != manifest_sha256 else COMPLETE)


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


@dataclass(frozen=True)
class MonitorRecord:
    """What the monitor of an instance has written down."""

    running: bool | None = False  # now; None: unknown
    pid: int | None = None  # of the one that wrote it; None: there is no record
    last_round: float | None = None  # the end of its last look at every checkpoint, in seconds since 1970, here
    rounds: int | None = None
    downloaded: tuple[tuple[str, int], ...] = ()  # run and step
    unsolved: tuple[str, ...] = ()  # problems that last, in its words
    damage: str | None = None  # why the record cannot be used, where there is one


def read_monitor(root: Path, instance: str) -> MonitorRecord:
    """The record of an instance's monitor."""
    path = root / "models" / RECORDS / f"instance-{instance}.json"
    running = lock_is_held(path.with_suffix(".lock"))
    try:
        return replace(read_as(MonitorRecord, read_json(path, "monitor's record")), running=running)
    except (SocratesError, TypeError, ValueError):
        damage = "record unreadable or of another version: start it again" if path.exists() else None
        return MonitorRecord(running, damage=damage)
