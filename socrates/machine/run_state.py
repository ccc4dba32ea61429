"""Run state: what the supervisor recorded of the trainings in a project's folder, and what is true now.

Covers: `.run/state.json`, complete at any moment, also on a full disk, and checked by whether its process still lives;
trainings that run without a supervisor, known by the lock on their output folder; `machine.env`, lines KEY=VALUE for
the environment of the machine's trainings (HF_HOME, NCCL_…, DS_ACCELERATOR=cpu), taken as they stand.
Does not cover: shell syntax in `machine.env`, and secrets, which do not belong in a file.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from socrates.errors import EXIT_CANNOT, EXIT_DONE, EXIT_NO, SocratesError
from socrates.files import read_json, read_text, write_json
from socrates.machine.process_tree import ProcessId, lock_holder, started_at
from socrates.telemetry.log import Progress, read_progress

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
class SupervisorRecord:
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


def utc_time() -> str:
    """The time, as the record has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_record(state: SupervisorRecord) -> None:
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


def read_record() -> SupervisorRecord | None:
    """The record, or None where nothing was ever started; SocratesError for a file that is no such record."""
    if not STATE.exists():
        return None
    value = read_json(STATE, "supervisor's record")
    try:
        value.pop("hostfile", None)  # older records have one
        attempts = tuple(Attempt(**attempt) for attempt in value.pop("attempts"))
        return SupervisorRecord(**{**value, "command": tuple(value["command"]), "attempts": attempts})
    except (KeyError, TypeError) as error:
        raise SocratesError(f"{STATE}: not a record of this supervisor ({error}); move it away") from error


def with_attempt(state: SupervisorRecord, **changes: Any) -> SupervisorRecord:
    """The record with its last attempt changed."""
    return replace(state, attempts=(*state.attempts[:-1], replace(state.attempts[-1], **changes)))


def way_on(record: SupervisorRecord) -> str:
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


MACHINE_ENV = "machine.env"
SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "TNR_API_TOKEN")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHELL = re.compile(r"""[$`"']""")


def read_machine_env(path: Path | str = MACHINE_ENV) -> dict[str, str]:
    """The settings of the file; none where there is no such file.

    Raises:
        SocratesError: every line that cannot be taken, by number and never by content: it might be a secret.
    """
    if not Path(path).exists():
        return {}
    settings: dict[str, str] = {}
    problems = []
    for number, line in enumerate(read_text(path, "settings of this machine").splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        problem = _problem(key, equals, value)
        if problem:
            problems.append(f"line {number}: {problem}")
        elif key in settings:
            problems.append(f"line {number}: {key} stands there twice; keep one")
        settings[key] = value
    if problems:
        raise SocratesError("\n  ".join([f"{path}: wants lines KEY=VALUE", *problems]))
    return settings


def _problem(key: str, equals: str, value: str) -> str | None:
    if key.startswith("export "):
        return 'leave out "export"; the file is not read by a shell'
    if not equals:
        return "no = in it"
    if not _KEY.fullmatch(key):
        return "what stands before the = is no name (letters, digits and _; no spaces around the =)"
    if key in SECRETS:
        return f"{key} is a secret and must not lie in a file: export it where the training is started"
    if _SHELL.search(value) or "\0" in value:
        return f"{key}: the value is taken as it stands: without quotes, and with nothing that a shell would replace"
    return None


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
class RunState:
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
    record: SupervisorRecord | None
    unsupervised: tuple[Unsupervised, ...]
    progress: Progress | None

    @property
    def exit_status(self) -> int:
        """0 running or complete, 1 failed or stopped, 2 never started."""
        return _EXIT.get(self.state, EXIT_CANNOT)


def find_run_state() -> RunState:
    """What is true now of the trainings in the current folder."""
    record, supervised = find_supervised()
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
    return RunState(state, reason, supervised, record, unsupervised, read_progress(folder) if folder else None)


def find_supervised() -> tuple[SupervisorRecord | None, bool]:
    """The record, and whether its supervisor runs."""
    record = read_record()
    if record and record.state == "running" and not record.process.is_alive():
        record = read_record()  # it may have ended between the two looks
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


def run_state_record(run: RunState) -> dict[str, Any]:
    """The run state as JSON values: the record's keys, corrected, and what else is known."""
    record, failed = run.record, run.state == "failed"
    return {
        **(asdict(record) if record else {}),
        "state": run.state,
        "reason": run.reason,
        "supervised": run.supervised,
        "unsupervised": [asdict(item) for item in run.unsupervised],
        "progress": asdict(run.progress) if run.progress else None,
        "last_lines": last_lines(record.log, record.log_offset) if record and failed else [],
    }


def run_state_text(run: RunState) -> str:
    """The run state for a person."""
    record = run.record
    lines = [run.state + (f": {run.reason}" if run.reason else "")]
    lines += [f"running without supervisor: {item}" for item in run.unsupervised]
    if run.progress:
        age = max(0, int(datetime.now(UTC).timestamp() - run.progress.time))
        lines.append(f"step {run.progress.step} of {run.progress.max_steps}, {age} s ago")
        lines += [f"WARNING: {text}" for text in run.progress.warnings]
    if record:
        ended = f", ended {record.ended}" if record.ended else ""
        lines.append(f"supervisor: process {record.pid}, started {record.started}{ended}, restarts: {record.restarts}")
        lines.append(f"config {record.config}, log {record.log}, checkpoints in {record.output_dir}")
        lines += [f"attempt {number}: {_attempt_text(a)}" for number, a in enumerate(record.attempts, 1)]
        if run.state == "stopped":
            lines.append(f"to go on: {way_on(record)}")
        if run.state == "failed":
            shown = last_lines(record.log, record.log_offset)
            lines += [f"last lines of {record.log}:", *(f"  {line}" for line in shown)]
    return "\n".join(lines)


def _attempt_text(attempt: Attempt) -> str:
    text = f"{attempt.started}, from step {attempt.from_step}"
    if attempt.ended is None:
        return text
    return f"{text}; ended {attempt.ended} at step {attempt.reached_step}, exit status {attempt.exit_status}"
