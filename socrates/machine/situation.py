"""What is true now of the trainings in a project's folder.

Covers: the supervisor's record, judged by whether its process still lives; trainings that run without a supervisor,
known by the lock on their output folder. Reads only.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from socrates.errors import EXIT_CANNOT, EXIT_DONE, EXIT_NO
from socrates.machine.process_tree import lock_holder, started_at
from socrates.machine.run_state import Attempt, RunState, last_lines, read_state, way_on
from socrates.machine.telemetry import Progress, read_progress

GONE = "the supervisor is gone (killed, or the machine restarted)"
_EXIT = {"running": EXIT_DONE, "complete": EXIT_DONE, "failed": EXIT_NO, "stopped": EXIT_NO}


@dataclass(frozen=True)
class Unsupervised:
    """A training that holds an output folder, and that no supervisor watches."""

    output_dir: str
    holder: str  # "process PID on NODE"
    pid: int | None
    since: str | None

    def __str__(self) -> str:
        """For messages."""
        return f"{self.holder}{f', since {self.since}' if self.since else ''}, into {self.output_dir}"


@dataclass(frozen=True)
class Situation:
    """What is true now.

    Attributes:
        state: running, complete, failed, stopped, or "never started".
        reason: why, in words; None where there is nothing to say.
        supervised: the run on record runs, and its supervisor with it.
        record: what the supervisor wrote down last.
        unsupervised: trainings that run without one.
        progress: of the training that runs, or of the one on record.
    """

    state: str
    reason: str | None
    supervised: bool
    record: RunState | None
    unsupervised: tuple[Unsupervised, ...]
    progress: Progress | None

    @property
    def exit_status(self) -> int:
        """0 running or complete, 1 failed or stopped, 2 never started."""
        return _EXIT.get(self.state, EXIT_CANNOT)


def find_situation() -> Situation:
    """What is true now of the trainings in the current folder."""
    record, supervised = read_record()
    state, reason = (record.state, record.reason) if record else ("never started", None)
    if state == "running" and not supervised:
        state, reason = "failed", GONE
    unsupervised = find_unsupervised(record.output_dir if record else None, supervised)
    folder = record.output_dir if record else None
    if unsupervised and not supervised:
        left_over = reason == GONE and any(item.output_dir == folder for item in unsupervised)
        reason = GONE if left_over else "started without the supervisor"
        reason += "; the training runs, but nothing starts it again if it dies"
        state, folder = "running", folder if left_over else unsupervised[0].output_dir
    return Situation(state, reason, supervised, record, unsupervised, read_progress(folder) if folder else None)


def read_record() -> tuple[RunState | None, bool]:
    """The record, and whether its supervisor runs."""
    record = read_state()
    if record and record.state == "running" and not record.process.is_alive():
        record = read_state()  # it may have ended between the two looks
    return record, record is not None and record.state == "running" and record.process.is_alive()


def find_unsupervised(own: str | None, supervised: bool) -> tuple[Unsupervised, ...]:
    """The trainings that hold a folder of models/ and that no supervisor watches.

    Args:
        own: the output folder of the run that is meant; looked at wherever it lies.
        supervised: whether a supervisor watches that one: then it is left out.
    """
    folders = {str(path.parent) for path in Path("models").glob("*/.training.lock")}
    folders -= {folder for folder in folders if own and Path(folder).resolve() == Path(own).resolve()}
    if own and not supervised:
        folders.add(own)
    found = []
    for folder in sorted(folders):
        holder = lock_holder(Path(folder) / ".training.lock")
        if holder is not None:
            number = re.match(r"process (\d+)", holder)
            pid = int(number[1]) if number else None
            found.append(Unsupervised(folder, holder, pid, started_at(pid) if pid else None))
    return tuple(found)


def situation_record(situation: Situation) -> dict[str, Any]:
    """The situation as JSON values: the record's keys, corrected, and what else is known."""
    record, failed = situation.record, situation.state == "failed"
    return {
        **(asdict(record) if record else {}),
        "state": situation.state,
        "reason": situation.reason,
        "supervised": situation.supervised,
        "unsupervised": [asdict(item) for item in situation.unsupervised],
        "progress": asdict(situation.progress) if situation.progress else None,
        "last_lines": last_lines(record.log, record.log_offset) if record and failed else [],
    }


def situation_text(situation: Situation) -> str:
    """The situation for a person."""
    record = situation.record
    lines = [situation.state + (f": {situation.reason}" if situation.reason else "")]
    lines += [f"running without supervisor: {item}" for item in situation.unsupervised]
    if situation.progress:
        age = max(0, int(datetime.now(UTC).timestamp() - situation.progress.time))
        lines.append(f"step {situation.progress.step} of {situation.progress.max_steps}, {age} s ago")
        lines += [f"WARNING: {text}" for text in situation.progress.warnings]
    if record:
        ended = f", ended {record.ended}" if record.ended else ""
        lines.append(f"supervisor: process {record.pid}, started {record.started}{ended}, restarts: {record.restarts}")
        lines.append(f"config {record.config}, log {record.log}, checkpoints in {record.output_dir}")
        lines += [f"attempt {number}: {_attempt_text(a)}" for number, a in enumerate(record.attempts, 1)]
        if situation.state == "stopped":
            lines.append(f"to go on: {way_on(record)}")
        if situation.state == "failed":
            shown = last_lines(record.log, record.log_offset)
            lines += [f"last lines of {record.log}:", *(f"  {line}" for line in shown)]
    return "\n".join(lines)


def _attempt_text(attempt: Attempt) -> str:
    text = f"{attempt.started}, from step {attempt.from_step}"
    if attempt.ended is None:
        return text
    return f"{text}; ended {attempt.ended} at step {attempt.reached_step}, exit status {attempt.exit_status}"
