"""Machine status: how this machine and its training stand, printed as one line of JSON for the laptop.

Covers: locks, which the kernel frees however a process ends, decide who lives; the record says what was meant; the
progress says whether anything moves. It only looks: nothing is changed. Needs no torch.
Does not cover: what the laptop has (its checkpoints, its monitor).
"""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from socrates.checkpoint import MANIFEST, checkpoint_step, list_checkpoints
from socrates.console import duration
from socrates.errors import SocratesError
from socrates.machine.evidence import find_evidence, restarts_in_words, seconds_of
from socrates.machine.run_state import GONE, RunState, SupervisorRecord, find_run_state, find_unsupervised
from socrates.telemetry.gpus import query_gpus
from socrates.telemetry.log import TRAINING_LOG, LogLine, Progress, read_log, read_progress
from socrates.telemetry.machine_report import COMPLETE, RUNNING, SCHEMA, UNKNOWN, WRONG, MachineReport

PATIENCE = 15 * 60.0  # seconds without a step; or that many steps, where these take longer
PATIENT_STEPS = 10
START_PATIENCE = 60 * 60.0  # seconds until the first step: a model is downloaded, 2.9 million rows are tokenized
_LOG_LINES, _LOG_BYTES = 8, 2**14


@dataclass(frozen=True)
class Run:
    """A run of this machine, and all that its status is made of; ``progress`` and ``line`` are of its last start."""

    folder: Path
    record: SupervisorRecord | None
    supervised: bool
    active: bool
    steps: tuple[int, ...]  # of its complete checkpoints
    progress: Progress | None
    earlier: Progress | None  # of a start before the last one
    line: LogLine
    now: float

    @property
    def begun(self) -> float | None:
        """When its last start was."""
        if self.record and self.record.attempts:
            return seconds_of(self.record.attempts[-1].started)
        return self.progress.started if self.progress else None

    @property
    def step(self) -> int | None:
        """The last one that counts."""
        if self.progress:
            return self.progress.step
        if self.active and self.record and self.record.attempts and self.earlier:
            return self.record.attempts[-1].from_step or None
        return max(self.steps, default=None)

    @property
    def max_steps(self) -> int | None:
        """The run's last step."""
        known = self.progress or self.earlier
        return known.max_steps if known else None

    @property
    def pace(self) -> float | None:
        """Seconds a step since this process began to train."""
        p = self.progress
        return (p.time - p.started) / (p.step - p.started_step) if p and p.step > p.started_step else None


def main(run: str = "", log: str = "") -> None:
    """Print the report; with the evidence of a run and its text log, where these are named."""
    print(json.dumps(asdict(machine_report(run, log)), allow_nan=False))


def machine_report(evidence_of: str = "", log: str = "") -> MachineReport:
    """How the current folder's machine stands.

    Args:
        evidence_of: the run whose infrastructure test is judged, if any; every byte of its checkpoints is read.
        log: its text log, where no supervisor's record names another.
    """
    now, broken = time.time(), None
    try:
        state = find_run_state()
    except SocratesError as error:
        broken, trains = str(error), find_unsupervised(None, False)
        state = RunState("never started", None, False, None, trains, None)
    disk = shutil.disk_usage("models" if Path("models").is_dir() else ".")
    base = {
        "schema": SCHEMA,
        "time": now,
        "gpus": query_gpus(),
        "disk_free": disk.free,
        "disk_total": disk.total,
        "checkpoints": {path.name: steps for path in _folders() if (steps := _complete(path))},
    }
    run = find_run(state, now)
    if evidence_of and not (run and run.active and run.folder.name == evidence_of):
        base["evidence"] = find_evidence(evidence_of, log, state.record)
    if run is None:
        return MachineReport(**base, verdict=WRONG, problem=broken)
    verdict, words, problem = judge(run)
    lines = [text for text in (problem, broken) if text]
    if run.active and run.progress:
        lines += [f"warning: {text}" for text in run.progress.warnings]
    ended = None if run.active else _ended(run)
    left = None if not run.active or why_stalled(run) else _seconds_left(run)
    started = [seconds_of(attempt.started) for attempt in run.record.attempts] if run.record else []
    log_name = run.record.log if run.record else _newest_log()
    return MachineReport(
        **base,
        **_money(run, left, ended),
        verdict=WRONG if lines and verdict in (RUNNING, COMPLETE) else verdict,
        state=words,
        problem="\n".join(lines) or None,
        active=run.active,
        run=run.folder.name,
        config=run.record.config if run.record else None,
        deepspeed=run.record.deepspeed if run.record else None,
        step=run.step,
        max_steps=run.max_steps,
        started=min([*started, *([run.progress.started] if run.progress else [])], default=None),
        ended=ended,
        seconds_per_step=run.pace,
        seconds_left=left,
        **{name: getattr(run.line, name) for name in ("loss", "learning_rate", "tokens_per_second")},
        **{name: getattr(run.line, name) for name in ("padding_share", "mfu", "eval_loss")},
        log_name=log_name,
        log=end_of(log_name, run.record.log_offset if run.record else 0),
    )


def find_run(state: RunState, now: float) -> Run | None:
    """The run that a status is about: the one that trains, else the one that was touched last."""
    record, active = state.record, state.supervised or bool(state.unsupervised)
    if state.supervised and record:
        folder = Path(record.output_dir)
    elif state.unsupervised:
        own = [item for item in state.unsupervised if record and item.output_dir == record.output_dir]
        folder = Path((own or state.unsupervised)[0].output_dir)
    else:
        touched = {path: _touched(path) for path in _folders() if _complete(path) or read_progress(path)}
        if record:
            path = Path(record.output_dir)
            touched[path] = max(touched.get(path, 0.0), seconds_of(record.ended or record.started))
        if not touched:
            return None
        folder = max(touched, key=lambda path: (touched[path], path))
    record = record if record and Path(record.output_dir) == folder else None
    steps = _complete(folder)
    progress, earlier = read_progress(folder), None
    if progress and record and record.attempts and progress.started < seconds_of(record.attempts[-1].started) - 5:
        progress, earlier = None, progress  # of an attempt before this one; a clock may step some seconds
    lines = [line for line in read_log(folder / TRAINING_LOG) if progress and (line.time or 0) >= progress.started]
    evaluated = next((line.eval_loss for line in reversed(lines) if line.eval_loss is not None), None)
    last = LogLine(**{**asdict(lines[-1]), "eval_loss": evaluated}) if lines else LogLine()
    return Run(folder, record, state.supervised, active, steps, progress, earlier, last, now)


def judge(run: Run) -> tuple[str, str, str | None]:
    """A run's verdict, its state in words, and what is wrong with it."""
    record, restarts = run.record, restarts_in_words(run.record)
    if run.active:
        problem = why_stalled(run)
        if run.supervised and record:
            return RUNNING, f"running under the supervisor (process {record.pid}), {restarts or 'no restart'}", problem
        if record and record.state == "running":
            gone = "the supervisor is gone: the training runs on, but nothing would start it again after a crash"
            return WRONG, "running without its supervisor", problem or gone
        return RUNNING, "running, started by hand (no supervisor: it is not started again after a crash)", problem
    if record is None:
        return _ended_by_hand(run)
    if record.state == "complete":
        return COMPLETE, f"complete, {restarts or 'no restart'}", None
    if record.state == "running":
        return WRONG, "not running", f"{GONE}, and nothing trains"
    problem = record.reason or "no reason is on record"
    if "max_cost_usd" in problem:
        problem += "\nGo on with a larger max_cost_usd in its config:"
    return WRONG, f"{record.state}, {restarts or 'no restart'}", problem


def _ended_by_hand(run: Run) -> tuple[str, str, str | None]:
    words = "(started by hand, no supervisor's record)"
    goal, step = run.max_steps, max([run.step or 0, *run.steps])
    if goal in run.steps:
        return COMPLETE, f"complete {words}", None
    if goal is None:
        return UNKNOWN, "not running", "whether the run is complete is unknown: its last step is not on record"
    p, of = run.progress, f"at step {step:,} of {goal:,}"
    if p and p.stopped and p.step in run.steps:
        again = f"where its checkpoint is complete: {p.stopped}\nGo on: the same command again"
        return WRONG, f"stopped {words}", f"it stopped {of}, {again}"
    unsaved = ", and its last checkpoint is not complete" if step >= goal else ""
    return WRONG, f"not running {words}", f"it ended {of}{unsaved}"


def why_stalled(run: Run) -> str | None:
    """Why a training that runs seems to stand still, or None.

    Before the first step a model is downloaded and data tokenized, which may take an hour.
    """
    p = run.progress
    if p is None:
        waited = run.now - run.begun if run.begun else 0.0
        return f"no step for {duration(waited)} since its start; look at the log" if waited > START_PATIENCE else None
    limit = max(PATIENCE, PATIENT_STEPS * (run.pace or 0.0))
    if p.step >= p.max_steps:
        limit = max(limit, START_PATIENCE / 2)  # it saves the last checkpoint and leaves
    quiet = run.now - p.time
    return f"no progress for {duration(quiet)}: step {p.step:,} was the last" if quiet > limit else None


def end_of(log: str | None, offset: int) -> tuple[str, ...]:
    """The last lines that a text log got since it was ``offset`` bytes long."""
    with suppress(OSError), Path(log or "").open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(offset if offset <= size else 0, size - _LOG_BYTES))
        lines = file.read(_LOG_BYTES).decode(errors="replace").splitlines()
        return tuple(line[-1000:] for line in lines if line.strip())[-_LOG_LINES:]
    return ()


def _seconds_left(run: Run) -> float | None:
    if run.step is None or run.max_steps is None:
        return None
    if run.line.seconds_left is not None and run.line.time is not None:
        return max(run.line.seconds_left - (run.now - run.line.time), 0.0)
    return (run.max_steps - run.step) * run.pace if run.pace else None


def _ended(run: Run) -> float | None:
    if run.record and run.record.ended:
        return seconds_of(run.record.ended)
    return run.progress.time if run.progress else None


def _money(run: Run, left: float | None, ended: float | None) -> dict[str, float | None]:
    """By the training's own count, whose dollars an hour are the price."""
    known = run.progress or run.earlier
    account = known.account if known else None
    if not known or not account or account.usd is None or not account.seconds:
        return {}
    price = account.usd / account.seconds  # a second
    since = known.time if run.progress else run.begun or run.now
    spent = account.usd + price * max((run.now if ended is None else ended) - since, 0.0)
    if ended is not None:
        idle = price * max(run.now - ended, 0.0)
        return {"price_per_hour": 3600 * price, "spent_usd": spent + idle, "expected_usd": spent, "idle_usd": idle}
    expected = None if left is None else spent + price * left
    return {"price_per_hour": 3600 * price, "spent_usd": spent, "expected_usd": expected}


def _folders() -> list[Path]:
    return sorted(path for path in Path("models").glob("*") if path.is_dir())


def _complete(folder: Path) -> tuple[int, ...]:
    return tuple(sorted(checkpoint_step(path) or 0 for path in list_checkpoints(folder) if (path / MANIFEST).is_file()))


def _touched(folder: Path) -> float:
    progress = read_progress(folder)
    return progress.time if progress else 0.0


def _newest_log() -> str | None:
    logs = sorted(Path().glob("*.log"), key=lambda path: path.stat().st_mtime)
    return str(logs[-1]) if logs else None
