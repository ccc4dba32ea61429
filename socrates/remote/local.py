"""Local state: the checkpoints on this computer and their state, who works on one, the record of the monitor.

Covers: a checkpoint's state is found by reading the files themselves, never a list that could disagree with them; what
was read once in a process is not read again while size, times and inode stay the same; one process at a time works on a
checkpoint, also where a transfer outlives the program that started it. For a status alone, manifest and sizes decide
(`check_sizes`), which is known at once.
Does not cover: a disk that changes bytes without changing a file's times, within one process.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from socrates.checkpoint import MANIFEST, checkpoint_step, find_damage, list_checkpoints, read_manifest
from socrates.errors import SocratesError
from socrates.files import file_identity, lock_is_held, sha256_file, try_lock, whole_number
from socrates.phases import PhaseRecord, phase_records
from socrates.remote.untrusted import json_object, plain

RECORDS = ".monitor"  # in the models folder
_LARGEST_RECORD = 10 * 2**20  # bytes
PARTIAL = ".partial"  # beside the checkpoints of a run: what is being fetched
TRAINING_LOCK = ".training.lock"
ABSENT, COMPLETE, LIGHT, DAMAGED, OTHER = "absent", "whole", "light", "damaged", "other"


class Busy(SocratesError):
    """Another process works on this checkpoint."""


class NoSpace(SocratesError):
    """The disk here is full; the same call succeeds once there is room."""


@dataclass(frozen=True)
class LocalCheckpoint:
    """A folder `checkpoint-N` here.

    Attributes:
        path: the folder.
        kind: ABSENT, COMPLETE, LIGHT (intact, but files were left on the instance), DAMAGED, or OTHER (intact, but not
            what the instance has under this name).
        reason: the first thing wrong with a damaged one; else None.
    """

    path: Path
    kind: str
    reason: str | None = None

    @property
    def intact(self) -> bool:
        """Whether every byte that its manifest lists is there, and it is the instance's checkpoint."""
        return self.kind in (COMPLETE, LIGHT)


class DigestMemory:
    """SHA-256 of files, remembered while device, inode, size and both times of a file stay the same."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], str] = {}

    def sha256(self, path: Path) -> str:
        """SHA-256 of a file's bytes."""
        before = tuple(file_identity(path).values())
        if before not in self._known:
            digest = sha256_file(path)
            if tuple(file_identity(path).values()) != before:
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
            return LocalCheckpoint(folder, COMPLETE)
        if manifest.source_sha256 != manifest_sha256:
            return LocalCheckpoint(folder, OTHER)
    return LocalCheckpoint(folder, LIGHT if manifest.left_out else COMPLETE)


def is_training_locally(run_folder: Path) -> bool:
    """Whether a training on this machine writes into a run's folder: then nothing is put there."""
    return lock_is_held(run_folder / TRAINING_LOCK) is True


@contextmanager
def working_on(target: Path, waits: Callable[[str], None] | None = None) -> Iterator[int]:
    """Hold the lock of a checkpoint that is fetched; yields the descriptor, for the processes that copy to inherit.

    The kernel frees the lock when the last process that holds the descriptor is gone: a transfer that outlives us
    still keeps others away from the files that it writes.

    Args:
        target: models/RUN/checkpoint-N, which need not exist.
        waits: called, once, with who holds the lock, before waiting for it; None: do not wait.

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
            os.pwrite(descriptor, f"process {os.getpid()} since {local_time()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def local_time() -> str:
    """The local time with its zone, as ISO 8601."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


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
    """What the monitor of an instance has written down. Times are seconds since 1970, here.

    Attributes:
        running: whether it runs now; None: unknown.
        found: whether there is a record at all.
        downloaded: run and step of each checkpoint that it downloaded.
        unsolved: problems that last, in its words.
    """

    running: bool | None = False
    found: bool = False
    pid: int | None = None
    started: float | None = None
    last_round: float | None = None
    rounds: int | None = None
    downloaded: frozenset[tuple[str, int]] = frozenset()
    unsolved: tuple[str, ...] = ()


@dataclass(frozen=True)
class LocalState:
    """All that is known on this computer.

    Attributes:
        checkpoints: run -> step -> what is wrong with it; None where manifest and sizes are right.
    """

    instance: str
    reached_by: str
    checkpoints: Mapping[str, Mapping[int, str | None]] = field(default_factory=dict)
    monitor: MonitorRecord = MonitorRecord()
    phases: tuple[PhaseRecord, ...] = ()


def find_local_state(root: Path, instance: str) -> LocalState:
    """Gather it; ``root`` is the project's folder."""
    return LocalState(
        instance,
        reached_by(root, instance),
        {folder.name: checked for folder in sorted((root / "models").glob("*")) if (checked := check_sizes(folder))},
        read_monitor(root, instance),
        tuple(phase_records(root)),
    )


def check_sizes(run_folder: Path) -> dict[int, str | None]:
    """Each checkpoint of a run here: what is wrong with its manifest or its files' sizes, or None."""
    return {checkpoint_step(folder) or 0: _wrong_size(folder) for folder in list_checkpoints(run_folder)}


def read_monitor(root: Path, instance: str) -> MonitorRecord:
    """The record of an instance's monitor; an unreadable one is none."""
    path = root / "models" / RECORDS / f"instance-{instance}.json"
    running = lock_is_held(path.with_suffix(".lock"))
    try:
        value = json_object(path.read_bytes()) if path.stat().st_size < _LARGEST_RECORD else None
    except OSError:
        value = None
    if value is None:
        return MonitorRecord(running)
    problems = [item for item in _list(value, "problems") if isinstance(item, dict) and item.get("solved") is not True]
    return MonitorRecord(
        running,
        True,
        whole_number(value.get("pid"), 1),
        _moment(value.get("started")),
        _moment(value.get("last_round")),
        whole_number(value.get("rounds")),
        frozenset(_downloads(value)),
        tuple(plain(item.get("what"), 200) or "a problem without words" for item in problems),
    )


def reached_by(root: Path, instance: str) -> str:
    """How an instance is reached, in words; see scripts/tnr."""
    try:
        entry = (json_object((root / "instances.json").read_bytes()) or {}).get(instance)
    except OSError:
        entry = None
    if isinstance(entry, dict) and os.environ.get("SOCRATES_BACKEND") != "thunder":
        if entry.get("folder"):
            return f"folder {plain(entry['folder'], 60)}"
        if entry.get("host"):
            port = whole_number(entry.get("port"))
            return f"ssh {plain(entry['host'], 60)}" + (f" port {port}" if port not in (None, 22) else "")
    return "Thunder Compute"


def _wrong_size(folder: Path) -> str | None:
    try:
        manifest = read_manifest(folder)
    except SocratesError:
        return "has no manifest that can be read"
    for name, (size, _) in manifest.files.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has another size"
    return None


def _downloads(value: Mapping[str, Any]) -> list[tuple[str, int]]:
    entries = [entry for entry in _list(value, "downloaded") if isinstance(entry, list) and len(entry) >= 2]
    return [
        (entry[0], entry[1]) for entry in entries if isinstance(entry[0], str) and whole_number(entry[1]) is not None
    ]


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    return value[key] if isinstance(value.get(key), list) else []


def _moment(value: Any) -> float | None:
    """A time that the monitor wrote (ISO, local where no zone is given)."""
    try:
        return datetime.fromisoformat(value).timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return None
