"""Run state: what the supervisor recorded of the trainings in a project's folder, and what is true now.

Covers: `.run/state.json`, complete at any moment, and checked by whether its supervisor still holds `.run/lock`;
trainings that run without a supervisor, known by the lock on their output folder; `machine.env`, lines KEY=VALUE for
the environment of the machine's trainings (HF_HOME, NCCL_…, DS_ACCELERATOR=cpu), taken as they stand.
Does not cover: shell syntax in `machine.env`, and secrets, which do not belong in a file.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, TypeAdapter, ValidationError

from socrates.errors import EXIT_CANNOT, EXIT_DONE, EXIT_NO, SocratesError
from socrates.files import lock_holder, lock_is_held, read_json, read_text
from socrates.telemetry.log import Progress, read_progress

RUN_FOLDER = Path(".run")
STATE = RUN_FOLDER / "state.json"
LOCK = RUN_FOLDER / "lock"
GONE = "the supervisor is gone (killed, or the machine restarted)"
Moment = Annotated[str, AfterValidator(lambda text: (datetime.fromisoformat(text).timestamp(), text)[1])]
_EXIT = {"running": EXIT_DONE, "complete": EXIT_DONE, "failed": EXIT_NO, "stopped": EXIT_NO}


@dataclass(frozen=True)
class Attempt:
    """One start of the training, and once it has ended, how."""

    started: Moment
    from_step: int  # of the checkpoint that it went on from; 0 for none
    exit_status: int | None = None  # the launcher's; negative for a signal
    reached_step: int | None = None  # the last one that was done or saved
    saved_step: int = 0  # of the newest complete checkpoint; 0 for none
    finished: bool = False  # the run's last checkpoint is there and complete
    stopped: str | None = None  # why it saved and ended by itself before its last step
    refused: str | None = None  # its own message, where it ended because it cannot go on


@dataclass(frozen=True)
class SupervisorRecord:
    """What the supervisor writes down. Times are ISO, UTC."""

    state: str  # running, complete, failed, stopped
    pid: int  # the supervisor's
    started: Moment
    config: str
    deepspeed: str
    log: str
    log_offset: int  # bytes of the log that are older than this start
    output_dir: str
    attempts: tuple[Attempt, ...] = ()
    restarts: int = 0
    ended: Moment | None = None
    reason: str | None = None

    @property
    def mark(self) -> str:
        """What its training's processes carry in their environment."""
        return f"{self.pid} since {self.started}"


def utc_time() -> str:
    """The time, as the record has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_record() -> SupervisorRecord | None:
    """The record, or None where nothing was ever started; SocratesError for a file that is no such record."""
    if not STATE.exists():
        return None
    try:  # what older records have besides is left out
        return TypeAdapter(SupervisorRecord).validate_python(read_json(STATE, "supervisor's record"))
    except ValidationError as error:
        first = error.errors()[0]
        what = f'"{".".join(map(str, first["loc"]))}": {first["msg"]}'
        raise SocratesError(f"{STATE}: not a record of this supervisor ({what}); move it away") from error


@dataclass(frozen=True)
class RunState:
    """What is true now."""

    state: str  # running, complete, failed, stopped, or "never started"
    reason: str | None  # why, in words; None where there is nothing to say
    supervised: bool  # the run on record runs, and its supervisor with it
    record: SupervisorRecord | None  # what the supervisor wrote down last
    unsupervised: dict[Path, str]  # output folder -> holder, of trainings that run without one
    progress: Progress | None  # of the training that runs, or of the one on record

    @property
    def exit_status(self) -> int:
        """0 running or complete, 1 failed or stopped, 2 never started."""
        return _EXIT.get(self.state, EXIT_CANNOT)


def find_run_state() -> RunState:
    """What is true now of the trainings in the current folder."""
    record, again, held = None, read_record(), False
    while record != again:  # a supervisor may begin or end between the two looks
        record, held = again, bool(lock_is_held(LOCK))
        again = read_record()
    state, reason = (record.state, record.reason) if record else ("never started", None)
    supervised = held and state == "running"
    if state == "running" and not supervised:
        state, reason = "failed", GONE
    folder = Path(record.output_dir) if record else None
    unsupervised = find_trainings(folder)
    if supervised:
        unsupervised.pop(folder, None)
    elif unsupervised:
        left_over = reason == GONE and folder in unsupervised
        reason = GONE if left_over else "started without the supervisor"
        reason += "; the training runs, but nothing starts it again if it dies"
        state, folder = "running", folder if left_over else next(iter(unsupervised))
    return RunState(state, reason, supervised, record, unsupervised, read_progress(folder) if folder else None)


def find_trainings(own: Path | None) -> dict[Path, str]:
    """Output folder -> holder of its lock, of each training into a folder of models/, or into ``own``."""
    locks = {*Path("models").glob("*/.training.lock"), *([own / ".training.lock"] if own else ())}
    return {lock.parent: lock_holder(lock) for lock in sorted(locks) if lock_is_held(lock)}


def run_state_text(run: RunState) -> str:
    """The run state for a person."""
    record = run.record
    lines = [run.state + (f": {run.reason}" if run.reason else "")]
    lines += [f"running without supervisor: {who}, into {folder}" for folder, who in run.unsupervised.items()]
    if run.progress:
        age = max(0, int(datetime.now(UTC).timestamp() - run.progress.time))
        lines.append(f"step {run.progress.step} of {run.progress.max_steps}, {age} s ago")
        lines += [f"WARNING: {text}" for text in run.progress.warnings]
    if record:
        lines.append(f"supervisor: process {record.pid}, started {record.started}, restarts: {record.restarts}")
        lines.append(f"config {record.config}, log {record.log}, checkpoints in {record.output_dir}")
        if run.state == "stopped":
            files = f"--config {record.config} --deepspeed {record.deepspeed} --log {record.log}"
            lines.append(f"to go on: python scripts/supervise.py start {files}")
        if run.state == "failed":
            last = read_end(record.log, record.log_offset).splitlines()[-20:]
            lines += [f"last lines of {record.log}:", *(f"  {line}" for line in last)]
    return "\n".join(lines)


def read_end(log: str | Path, offset: int, limit: int = 2**16) -> str:
    """At most the last ``limit`` bytes that a log got since it was ``offset`` bytes long."""
    with suppress(OSError, ValueError), Path(log).open("rb") as file:  # ValueError: a NUL in the name
        size = file.seek(0, 2)
        file.seek(max(offset if offset <= size else 0, size - limit))
        return file.read().decode(errors="replace")
    return ""


MACHINE_ENV = "machine.env"
_SETTING = re.compile(r"""([A-Za-z_][A-Za-z0-9_]*)=([^$`"'\0]*)""")
_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "TNR_API_TOKEN")


def read_machine_env(path: Path | str = MACHINE_ENV) -> dict[str, str]:
    """The settings of the file, a later line before an earlier one; none where there is no such file.

    Raises:
        SocratesError: a line that cannot be taken, by number and never by content: it might be a secret.
    """
    settings: dict[str, str] = {}
    text = read_text(path, "settings of this machine") if Path(path).exists() else ""
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if not line or line.startswith("#"):
            continue
        setting = _SETTING.fullmatch(line)
        if not setting:
            wanted = "wants KEY=VALUE as it stands: no export, no spaces around the =, no quotes, $ or `"
            raise SocratesError(f"{path}: line {number}: {wanted}")
        if setting[1] in _SECRETS:
            raise SocratesError(f"{path}: line {number}: {setting[1]} is a secret: export it where training starts")
        settings[setting[1]] = setting[2]
    return settings
