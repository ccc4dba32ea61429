"""Journal: the answers so far of an evaluation or a prediction, on disk; the same command goes on after any end.

One JSONL file: what decides the answers, then an answer a line, each with a digest of itself. Covers: a line that a
kill or a full disk cut off is dropped, and one that was damaged or edited is not believed; answers of another run are
never mixed in, and two processes never write at once.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from socrates.errors import SocratesError
from socrates.files import cannot_write, sha256_json, sync_folder, try_lock
from socrates.schema import shown

UNFINISHED = "unfinished.jsonl"  # in the results folder


class Journal:
    """The answers so far of one evaluation or prediction. Use `open_journal`, and `close` or `remove` at the end.

    Attributes:
        answers: what was appended, in this run and in those before.
        seconds: how long that took.
        header: what `begin` recorded; None before it was called.
        damaged: how many lines do not fit their digest: what they answered has to be asked again.
    """

    def __init__(self, path: Path, file: BinaryIO, identity: Mapping[str, Any]) -> None:
        """Read what is there; ``file`` is open for appending, and locked."""
        self._path, self._file, self._identity = path, file, dict(identity)
        first, *answers = _read_lines(file) or [None]
        self.header = first if first and {"identity", "about"} <= first.keys() else None
        self.answers = [answer for answer in answers if answer and "seconds" in answer]
        self.damaged = len(answers) - len(self.answers)
        self.seconds = sum((answer.pop("seconds") for answer in self.answers), 0.0)

    def begin(self, about: Mapping[str, Any]) -> None:
        """Record what is asked (``about``: JSON values, for the results); once, before the first answers."""
        self.header = {"identity": self._identity, "about": dict(about)}
        self._write([self.header])

    def append(self, answers: Sequence[dict[str, Any]], seconds: float) -> None:
        """Keep answers (JSON objects, which took so many seconds) for good: they are on disk when this returns.

        Raises:
            SocratesError: they cannot be written; what was there before is unharmed.
        """
        self._write([{"seconds": round(seconds / len(answers), 6), **answer} for answer in answers])
        self.answers += answers
        self.seconds += seconds

    def close(self) -> None:
        """Let go of the file; what is in it stays."""
        self._file.close()

    def remove(self) -> None:
        """The run has finished: its results are elsewhere."""
        self._path.unlink(missing_ok=True)  # while it is ours: another process may wait for the lock
        self._file.close()

    def _write(self, lines: Sequence[Mapping[str, Any]]) -> None:
        marked = [{**line, "digest": sha256_json(line)} for line in lines]
        text = b"".join(json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n" for line in marked)
        end = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(text) != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(end)
            raise cannot_write(self._path, error) from error


def open_journal(output: Path, identity: Mapping[str, Any], *, discard: bool = False) -> Journal:
    """Open the answers so far of an evaluation or a prediction, or begin with none.

    Args:
        output: the results folder.
        identity: what decides the answers, as JSON values; has to be equal to go on.
        discard: whether answers of another run may be thrown away.

    Raises:
        SocratesError: the folder holds those of another run, another process is writing there, or it cannot be written.
    """
    path = output / UNFINISHED
    file = _open_locked(path)
    journal = Journal(path, file, identity)
    lost = journal.header is None and path.stat().st_size > 0
    recorded = journal.header["identity"] if journal.header else identity
    differences = "its first line is damaged" if lost else differing(recorded, identity)
    if differences and not discard:
        file.close()
        raise SocratesError(
            f"{output}: holds the answers so far of another run: {differences}; choose another --output, or discard "
            "them with --overwrite"
        )
    if differences:
        file.truncate(0)
        journal = Journal(path, file, identity)
    return journal


def differing(recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What two runs differ in, for a message; empty if in nothing."""
    names = [name for name in {**recorded, **wanted} if recorded.get(name) != wanted.get(name)]
    return ", ".join(f"{name} ({shown(recorded.get(name))}, now {shown(wanted.get(name))})" for name in names)


def _open_locked(path: Path) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    if not try_lock(file):
        file.close()
        raise SocratesError(f"{path.parent}: another run is writing there now; wait, or choose another --output")
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    file.close()  # its holder has finished and removed it in the meantime
    return _open_locked(path)


def _read_lines(file: BinaryIO) -> list[dict[str, Any] | None]:
    """The header, then the answers, None for a damaged line; a last line without its end is cut off the file."""
    lines: list[dict[str, Any] | None] = []
    end = file.seek(0)
    for line in file:
        if not line.endswith(b"\n"):
            break
        end += len(line)
        lines.append(None)
        with suppress(ValueError, TypeError, AttributeError, RecursionError):  # no JSON, no object, no UTF-8, NaN
            value = json.loads(line)
            if value.pop("digest", None) == sha256_json(value):
                lines[-1] = value
    file.truncate(end)
    return lines
