"""What the supervisor writes down about the training it runs: `.run/state.json`, and the end of its log.

Covers: the record is whole at any moment, also on a full disk. Does not cover: whether it is still true; see
`situation.py`.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from socrates.errors import SocratesError
from socrates.files import read_json, write_json
from socrates.machine.process_tree import ProcessId

RUN_FOLDER = Path(".run")
STATE = RUN_FOLDER / "state.json"
LOCK = RUN_FOLDER / "lock"
LAST_LINES = 20


@dataclass(frozen=True)
class Attempt:
    """One start of the training."""

    started: str
    from_step: int
    pid: int | None = None  # the launcher's, and the number of its process group
    ended: str | None = None
    exit_status: int | None = None
    reached_step: int | None = None
    asked: str | None = None  # when its ranks were asked to save and end; a second time would end them at once


@dataclass(frozen=True)
class RunState:
    """What the supervisor writes down. Times are ISO, UTC."""

    state: str  # running, complete, failed, stopped
    pid: int  # the supervisor's
    start_ticks: int
    boot_id: str
    started: str
    config: str
    deepspeed: str
    log: str
    log_offset: int  # bytes of the log that are older than this start
    output_dir: str
    command: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    restarts: int = 0
    ended: str | None = None
    reason: str | None = None

    @property
    def process(self) -> ProcessId:
        """The supervisor."""
        return ProcessId(self.pid, self.start_ticks, self.boot_id)


def now() -> str:
    """The time, as it is written into the record."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_state(state: RunState) -> None:
    """Replace the record.

    On a full disk, where no new file can be written, the old one is written over in place: that needs no space.

    Raises:
        SocratesError: neither can be done.
    """
    value = asdict(state)
    try:
        write_json(STATE, value)
    except SocratesError as error:
        try:
            with STATE.open("r+", encoding="utf-8") as file:
                file.write(json.dumps(value))
                file.truncate()
        except OSError:
            raise error from None


def read_state() -> RunState | None:
    """The record, or None where nothing was ever started; SocratesError for a file that is no such record."""
    if not STATE.exists():
        return None
    value = read_json(STATE, "supervisor's record")
    try:
        value.pop("hostfile", None)  # older records have one
        attempts = tuple(Attempt(**attempt) for attempt in value.pop("attempts"))
        return RunState(**{**value, "command": tuple(value["command"]), "attempts": attempts})
    except (KeyError, TypeError) as error:
        raise SocratesError(f"{STATE}: not a record of this supervisor ({error}); move it away") from error


def with_attempt(state: RunState, **changes: Any) -> RunState:
    """The record with its last attempt changed."""
    return replace(state, attempts=(*state.attempts[:-1], replace(state.attempts[-1], **changes)))


def way_on(record: RunState) -> str:
    """The command with which a run goes on from its newest checkpoint."""
    return (
        f"python scripts/supervise.py start --config {record.config} --deepspeed {record.deepspeed} "
        f"--log {record.log} --resume"
    )


def last_lines(log: str | Path, offset: int, count: int = LAST_LINES) -> list[str]:
    """The last lines that a log got since it was ``offset`` bytes long."""
    return read_end(log, offset).splitlines()[-count:]


def read_end(log: str | Path, offset: int, limit: int = 2**16) -> str:
    """At most the last ``limit`` bytes that a log got since it was ``offset`` bytes long."""
    with suppress(OSError), Path(log).open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(offset if offset <= size else 0, size - limit))
        return file.read().decode(errors="replace")
    return ""
