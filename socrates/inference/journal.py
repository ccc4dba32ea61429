"""Journal: the answers so far of an evaluation or a prediction, on disk; the same command goes on after any end.

Covers: each batch's answers are one line, flushed to disk before the next batch; a line that a kill or a full disk cut
off is dropped, and one that was damaged is passed over; answers of another run are never mixed in, and two processes
never write at once.
Does not cover: finished results (`results.py`); they take this folder's place.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from socrates.config import without_gone
from socrates.errors import SocratesError
from socrates.files import read_json, sync_folder, try_lock, write_json

UNFINISHED = "unfinished"  # the folder, inside the results folder
_HEADER, _ANSWERS, _LOCK = "evaluation.json", "answers.jsonl", "lock"


class Journal:
    """The answers so far of one evaluation or prediction. Use `open_journal`, and `close` or `remove` at the end.

    Attributes:
        answers: what was appended, in this run and in those before.
        seconds: how long that took.
        header: what `begin` was given; None before it was called.
    """

    def __init__(self, folder: Path, lock: IO[str], identity: Mapping[str, Any]) -> None:
        """Read what is there; the lock is held."""
        self._folder, self._lock, self._identity = folder, lock, dict(identity)
        self.header: dict[str, Any] | None = None
        self.answers: list[dict[str, Any]] = []
        self.seconds = 0.0
        if (folder / _HEADER).exists():
            self.header = _read_header(folder / _HEADER)
            for batch in _read_whole_lines(folder / _ANSWERS):
                self.answers += batch["answers"]
                self.seconds += batch["seconds"]
        self._file = (folder / _ANSWERS).open("ab", buffering=0)

    def begin(self, about: Mapping[str, Any], batch_tokens: int) -> None:
        """Record what everything that goes on with this goes by; once, before the first answers.

        Args:
            about: what is asked, for the results, as JSON values.
            batch_tokens: the most in one forward.
        """
        self.header = {"identity": self._identity, "about": dict(about), "batch_tokens": batch_tokens}
        write_json(self._folder / _HEADER, self.header)

    def append(self, answers: Sequence[dict[str, Any]], seconds: float) -> None:
        """Keep answers for good: they are on disk when this returns, all or none.

        Args:
            answers: JSON objects.
            seconds: how long they took.

        Raises:
            SocratesError: they cannot be written; what was there before is unharmed.
        """
        batch = {"seconds": round(seconds, 3), "answers": list(answers)}
        line = json.dumps(batch, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        end = self._file.seek(0, os.SEEK_END)
        try:
            written = self._file.write(line)
            if written != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(end)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise SocratesError(
                f"{self._folder / _ANSWERS}: cannot write: {error.strerror or error}; "
                f"{'free some space' if full else 'put that right'} and run the same command again: it goes on from "
                "here"
            ) from error
        self.answers += answers
        self.seconds += seconds

    def close(self) -> None:
        """Let go of the folder; what is in it stays."""
        self._file.close()
        self._lock.close()

    def remove(self) -> None:
        """The run has finished: its results are elsewhere."""
        self._file.close()
        shutil.rmtree(self._folder, ignore_errors=True)  # while it is ours: another process may wait for the lock
        self._lock.close()


def open_journal(output: Path, identity: Mapping[str, Any], *, discard: bool = False) -> Journal:
    """Open the answers so far of an evaluation or a prediction, or begin with none.

    Args:
        output: the results folder.
        identity: what decides the answers, as JSON values; has to be equal to go on.
        discard: whether answers of another run may be thrown away.

    Raises:
        SocratesError: the folder holds those of another run, or of one that is not known; another process is
            writing there, or it cannot be written.
    """
    folder = output / UNFINISHED
    lock = _locked(folder)
    try:
        header = folder / _HEADER
        if header.exists() and (reason := _not_ours(header, identity)):
            if not discard:
                raise SocratesError(
                    f"{output}: holds the answers so far of {reason}; choose another --output, or discard them with "
                    "--overwrite"
                )
            header.unlink()
        if not header.exists():  # answers without a header: begun, and ended before the first
            (folder / _ANSWERS).unlink(missing_ok=True)
        return Journal(folder, lock, identity)
    except BaseException as error:
        lock.close()
        if isinstance(error, OSError):
            raise SocratesError(f"{folder}: cannot write: {error.strerror or error}") from error
        raise


def _not_ours(header: Path, identity: Mapping[str, Any]) -> str:
    """Why answers cannot be gone on with, for a message; empty if they can."""
    try:
        record = _read_header(header)
    except SocratesError as error:
        return f"an unknown run ({error})"
    kinds = {"identity": dict, "about": dict, "batch_tokens": int}
    if not all(isinstance(record.get(name), kind) for name, kind in kinds.items()):
        return f"an unknown run ({header}: does not say which)"
    differences = differing(record["identity"], identity)
    return f"another run: {differences}" if differences else ""


def _read_header(path: Path) -> dict[str, Any]:
    return without_gone(read_json(path, "record of an unfinished run"), str(path))


def differing(recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What two runs differ in, for a message; empty if in nothing."""
    names = [name for name in {**recorded, **wanted} if recorded.get(name) != wanted.get(name)]
    return ", ".join(f"{name} ({_brief(recorded.get(name))}, now {_brief(wanted.get(name))})" for name in names)


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:12]}…"


def _locked(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
        lock = (folder / _LOCK).open("a")
    except OSError as error:
        raise SocratesError(f"{folder}: cannot write: {error.strerror or error}") from error
    if not try_lock(lock):
        lock.close()
        raise SocratesError(f"{folder.parent}: another run is writing there now; wait, or choose another --output")
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(lock.fileno()), (folder / _LOCK).stat()):
            return lock
    lock.close()  # of a folder that its holder has removed in the meantime
    return _locked(folder)


def _read_whole_lines(path: Path) -> list[dict[str, Any]]:
    """The batches of all complete lines; a last line without its end is cut off the file."""
    if not path.exists():
        return []
    batches: list[dict[str, Any]] = []
    end = 0
    with path.open("r+b") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            end += len(line)
            if (batch := _batch(line)) is not None:
                batches.append(batch)
        file.truncate(end)
    return batches


def _batch(line: bytes) -> dict[str, Any] | None:
    try:
        batch = json.loads(line)
        answers, seconds = batch["answers"], batch["seconds"]
    except (ValueError, TypeError, KeyError):  # ValueError: also a wrong encoding
        return None
    whole = isinstance(answers, list) and all(isinstance(answer, dict) for answer in answers)
    return batch if whole and isinstance(seconds, int | float) else None
