"""Files that are complete or absent, strict JSON, file identities and lock files.

Covers: a file is written under a temporary name, flushed to disk, then renamed, so that a crash, a kill -9 or a full
disk leaves the earlier file, or none, under the final name. The kernel frees a lock however its holder ends.
Does not cover: two writers of one file (the last rename wins).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import platform
import stat
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from socrates.errors import SocratesError

_TEXT_LIMIT = 2**26  # bytes
_SAME_MOMENT = 2_000_000_000  # nanoseconds
_PATIENCE = 1.0  # seconds for who has the lock: it may be about to end
_PATIENCE_WITH_LOOKERS = 60.0  # status and launch share it for a moment, which is longer on a busy machine


@contextmanager
def atomic_write(path: Path | str, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that appears under ``path`` only once it is complete and on disk; text is UTF-8.

    Raises:
        SocratesError: the file cannot be written (no space, no permission); nothing is left behind. Or what stands
            there is a device or a pipe.
    """
    path = Path(path)
    refuse_device(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Half characters (a path that is no UTF-8) as JSON writes them.
        text = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace"}
        with temporary.open(mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def refuse_device(path: Path, remedy: str = "name a file to write") -> None:
    """SocratesError for a device, which a rename would replace as root, and for a pipe, whose end may never come."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise SocratesError(f"{path}: is a device or a pipe, not a file; {remedy}")


def cannot_write(path: Path, error: OSError) -> SocratesError:
    """The error for a file or folder that cannot be written, with what to do about it."""
    remedy = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "; free some space and run the same command again"
    elif error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        remedy = "; check the folder's permissions, or choose another one"
    return SocratesError(f"{path}: cannot write: {error.strerror or error}{remedy}")


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to disk, so that a rename survives a power cut, where that can be done."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS):  # as CIFS and FUSE answer
            raise
    finally:
        os.close(descriptor)


def remove_tree(*paths: Path) -> None:
    """Remove what stands at some paths, however deep: shutil's way ends in a RecursionError."""
    done = subprocess.run(["rm", "-rf", "--", *paths], capture_output=True)
    if done.returncode:
        raise OSError(done.stderr.decode(errors="replace").strip())


def remove_file(path: Path | str) -> None:
    """Remove a file, if there is one, for good: also after a power cut.

    Raises:
        SocratesError: that cannot be done, or what stands there is a device or a pipe.
    """
    path = Path(path)
    refuse_device(path)
    try:
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
    except FileNotFoundError:  # not even the folder
        pass
    except OSError as error:
        raise SocratesError(f"{path}: cannot replace it: {error.strerror or error}") from error


def write_json(path: Path | str, value: Any) -> None:
    """Write ``value`` as indented JSON, complete or not at all. NaN and infinity are refused (ValueError)."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_write(path) as file:
        file.write(text)


def write_jsonl(path: Path | str, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, complete or not at all. NaN and infinity are refused (ValueError)."""
    with atomic_write(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str, what: str = "file", *, nan_is_null: bool = False) -> dict[str, Any]:
    """Read a JSON object strictly: a duplicate key, NaN or infinity is an error, as is anything but an object.

    ``what`` is what the file is to the user ("config", "baseline metrics"), for the messages. With ``nan_is_null`` NaN
    and infinity count as null: the Trainer writes them where a loss or a gradient's norm was no number.

    Raises:
        SocratesError: the file is missing, empty, unreadable or not such an object; says which, and where.
    """
    path = Path(path)
    text = read_text(path, what)
    if not text.strip():
        raise SocratesError(f"{path}: the {what} is empty")
    try:
        constant = (lambda name: None) if nan_is_null else no_constant
        value = json.loads(text, object_pairs_hook=unique_keys, parse_constant=constant, parse_float=finite_number)
    except json.JSONDecodeError as error:
        raise SocratesError(f"{path}: line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # our own checks; or nested too deep
        raise SocratesError(f"{path}: {error}") from error
    if not isinstance(value, dict):
        raise SocratesError(f"{path}: the {what} must be a JSON object, not a {type(value).__name__}")
    return value


def read_text(path: Path | str, what: str = "file") -> str:
    """Read a UTF-8 text file, with or without a byte order mark.

    Raises:
        SocratesError: it is missing, not UTF-8, too large to be one of ours, or no file (a pipe would never end).
    """
    path = Path(path)
    try:
        found = path.stat()
        if stat.S_ISREG(found.st_mode) and found.st_size > _TEXT_LIMIT:
            raise SocratesError(f"{path}: is larger than a {what} can be ({found.st_size} bytes)")
        if not (stat.S_ISREG(found.st_mode) or path.is_dir()):
            raise SocratesError(f"{path}: is a pipe or a device, expected the {what}; save it as a file first")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise SocratesError(f"{path}: no such {what}") from error
    except IsADirectoryError as error:
        raise SocratesError(f"{path}: is a folder, expected the {what}") from error
    except UnicodeDecodeError as error:
        raise SocratesError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise SocratesError(f"{path}: cannot read: {getattr(error, 'strerror', None) or error}") from error


def finite(value: Any, low: float = -math.inf, high: float = math.inf) -> float | None:
    """A finite number of a JSON file within [low, high], else None; true and false are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) and low <= value <= high else None
    except OverflowError:  # a whole number that no float holds
        return None


def whole_number(value: Any, low: int = 0, high: int = 10**12) -> int | None:
    """A whole number of a JSON file within [low, high], else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high else None


def sha256_file(path: Path | str) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_identity(path: Path) -> dict[str, int]:
    """Size, inode and times of a file: where they are equal, its bytes are, and need not be read again.

    The time of the last change of its inode cannot be set, so a file that was replaced, edited or copied from elsewhere
    is another one.
    """
    found = path.stat()
    return {name: getattr(found, f"st_{name}") for name in ("size", "ino", "dev", "mtime_ns", "ctime_ns")}


def remembered_sha256(path: Path | str) -> str:
    """SHA-256 of a large file's bytes; kept in a hidden file beside it until the file is touched in any way.

    It is known again by its `file_identity`. One that changed less than two seconds before it was read is read again: a
    clock may not tell two such changes apart.

    Raises:
        SocratesError: the file is missing or cannot be read.
    """
    path = Path(path)
    memory = path.with_name(f".{path.name}.sha256")
    try:
        before = file_identity(path)
        with suppress(SocratesError, KeyError):
            known = read_json(memory, "remembered digest")
            if known["of"] == before:
                return known["sha256"]
        started = time.time_ns()
        digest = sha256_file(path)
        if file_identity(path) != before:
            raise SocratesError(f"{path}: was changed while it was read; run the same command again")
    except OSError as error:
        raise SocratesError(f"{path}: cannot read: {error.strerror or error}") from error
    if max(before["mtime_ns"], before["ctime_ns"]) < started - _SAME_MOMENT:
        with suppress(SocratesError):  # a folder that may only be read
            write_json(memory, {"of": before, "sha256": digest})
    return digest


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file that is there, through links of whatever kind."""
    return one.exists() and other.exists() and one.samefile(other)


def sha256_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON (sorted keys, no spaces), as 64 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of a JSON decoder's pairs (its `object_pairs_hook`); ValueError where a key stands there twice."""
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise ValueError(f'the key "{key}" stands there twice; keep one')
        value[key] = item
    return value


def finite_number(text: str) -> float:
    """What a strict JSON decoder does with a number: ValueError for one like 1e999, which no float holds."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:20]} is not a number that can be computed with")
    return value


def no_constant(name: str) -> None:
    """What a strict JSON decoder does with NaN and infinity: ValueError."""
    raise ValueError(f"{name} is not a number that JSON allows; where nothing is known, write null")


class Busy(SocratesError):
    """Another process holds a lock file."""


class NoLocks(SocratesError):
    """The file system locks no files (Lustre, NFS), so that a second process could not be kept out."""


def take_lock(path: Path, taken: str, remedy: str = "", waits: Callable[[str], None] | None = None) -> IO[bytes]:
    """Open a lock file, take it, and write our process id into it.

    The kernel frees it once it is closed here and in every process that inherited it: a transfer that outlives us still
    keeps others away from the files that it writes.

    Args:
        path: of the lock file, which is made.
        taken: what to say before who holds it, if another process does.
        remedy: what to say after it.
        waits: called, once, with that, before waiting for it; None: do not wait.

    Raises:
        Busy: another process holds it, and ``waits`` is None.
        NoLocks: the file system has none.
        OSError: it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+b", buffering=0)
    try:
        is_ours = try_lock(file)
    except NoLocks:
        file.close()
        if not path.stat().st_size:  # we have made it: who looks for trainings would ask in vain whether it is held
            path.unlink()
        raise
    if not is_ours:
        message = f"{taken} ({lock_holder(path)}){remedy}"
        if waits is None:
            file.close()
            raise Busy(message)
        waits(f"{message}; waiting for it")
        while not try_lock(file):
            pass
    with suppress(OSError):  # a full disk: the lock holds without its text
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()} since {time.strftime('%FT%T%z')}\n".encode())
    return file


def lock_holder(path: Path) -> str:
    """What the holder of a lock wrote into it."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(1000).decode(errors="replace").strip() or "process unknown"
    return "process unknown"


def try_lock(file: int | IO[Any]) -> bool:
    """Take a lock file for ourselves; False if another process has it, and not only looks whether it is free."""
    begun = time.monotonic()
    while not _lock(file, fcntl.LOCK_EX):
        looked_at = _lock(file, fcntl.LOCK_SH)
        if looked_at:
            fcntl.flock(file, fcntl.LOCK_UN)
        if time.monotonic() - begun > (_PATIENCE_WITH_LOOKERS if looked_at else _PATIENCE):
            return False
        time.sleep(0.05)
    return True


def _lock(file: int | IO[Any], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        disk = Path(getattr(file, "name", "the folder")).parent
        raise NoLocks(
            f"{disk}: the disk that this is on locks no files ({error.strerror}), so that nothing keeps a second "
            "process out; use a folder on another disk, or have it mounted with locks (Lustre: -o flock; NFS: lockd)"
        ) from error


def lock_is_held(path: Path) -> bool | None:
    """Whether a process holds a lock file; None: unknown."""
    try:
        with path.open() as file:
            return not _lock(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False
    except (OSError, ValueError, NoLocks):  # ValueError: a NUL in the path
        return None
