"""Machine status: how this machine and its training stand, printed as one line of JSON for the laptop.

Covers: locks, which the kernel frees however a process ends, decide who lives; the record says what was meant; the
progress says whether anything moves. It only looks: nothing is changed. Needs no torch.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from socrates.checkpoint import MANIFEST, checkpoint_step, list_checkpoints
from socrates.console import count, duration
from socrates.machine.evidence import find_evidence, seconds_of
from socrates.machine.run_state import RunState, SupervisorRecord, find_run_state, read_end
from socrates.telemetry.gpus import query_gpus
from socrates.telemetry.log import TRAINING_LOG, Progress, read_log, read_progress
from socrates.telemetry.machine_report import COMPLETE, RUNNING, SCHEMA, UNKNOWN, WRONG, MachineReport

PATIENCE = 15 * 60.0  # seconds without a step; or that many steps, where these take longer
PATIENT_STEPS = 10
START_PATIENCE = 60 * 60.0  # seconds until the first step: a model is downloaded, 2.9 million rows are tokenized
_LOG_LINES, _LOG_BYTES = 8, 2**14


@dataclass(frozen=True)
class Run:
    """A run of this machine, and all that its status is made of.

    Attributes:
        steps: of its complete checkpoints.
        progress: ``fresh`` where its last start made it, else an earlier one.
        line: the last of the training log since its last start.
    """

    folder: Path
    record: SupervisorRecord | None
    active: bool
    steps: tuple[int, ...]
    progress: Progress | None
    fresh: bool
    line: dict[str, Any]
    now: float

    @property
    def begun(self) -> float | None:
        """When its last start was."""
        if self.record and self.record.attempts:
            return seconds_of(self.record.attempts[-1].started)
        return self.progress.started if self.progress else None

    @property
    def step(self) -> int | None:
        """The last one that counts: of a start that has done none, its newest checkpoint's."""
        return self.progress.step if self.progress and self.fresh else max(self.steps, default=None)

    @property
    def pace(self) -> float | None:
        """Seconds a step since this process began to train."""
        p = self.progress if self.fresh else None
        return (p.time - p.started) / (p.step - p.started_step) if p and p.step > p.started_step else None

    @property
    def seconds_left(self) -> float | None:
        """At its pace; unknown where it ended or stands still."""
        if not self.active or self.progress is None or self.pace is None or why_stalled(self):
            return None
        return max((self.progress.max_steps - self.progress.step) * self.pace - (self.now - self.progress.time), 0.0)

    @property
    def ended(self) -> float | None:
        """When it ended, where it did."""
        if self.active:
            return None
        if self.record and self.record.ended:
            return seconds_of(self.record.ended)
        return self.progress.time if self.progress and self.fresh else None


def main(run: str = "", log: str = "") -> None:
    """Print the report; with the evidence of a run and its text log, where these are named."""
    print(json.dumps(asdict(machine_report(run, log))))  # NaN and infinity are read as unknown


def machine_report(evidence_of: str = "", log: str = "") -> MachineReport:
    """How the current folder's machine stands.

    Args:
        evidence_of: the run whose infrastructure test is judged, if any; every byte of its checkpoints is read.
        log: its text log, where no supervisor's record names another.

    Raises:
        SocratesError: the supervisor's record cannot be read.
    """
    now, state = time.time(), find_run_state()
    run = find_run(state, now)
    disk = shutil.disk_usage("models" if Path("models").is_dir() else ".")
    has_ended = not (run and run.active and run.folder.name == evidence_of)
    return MachineReport(
        SCHEMA,
        now,
        gpus=tuple(query_gpus()),
        disk_free=disk.free,
        disk_total=disk.total,
        checkpoints={path.name: steps for path in _folders() if (steps := _complete(path))},
        evidence=find_evidence(evidence_of, log, state.record) if evidence_of and has_ended else None,
        **(_describe(run, state) if run else {"verdict": WRONG}),
    )


def _describe(run: Run, state: RunState) -> dict[str, Any]:
    """The part of the report that is about the run."""
    record, logs = run.record, sorted(Path().glob("*.log"), key=lambda path: path.stat().st_mtime)
    verdict, words, problem = judge(run, state)
    problems = [problem] if problem else []
    if run.active and run.fresh and run.progress:
        problems += [f"warning: {text}" for text in run.progress.warnings]
    log = record.log if record else str(logs[-1]) if logs else ""
    end = read_end(log, record.log_offset if record else 0, _LOG_BYTES).splitlines()
    return {
        "verdict": WRONG if problems and verdict in (RUNNING, COMPLETE) else verdict,
        "state": words,
        "problem": "\n".join(problems) or None,
        "active": run.active,
        "run": run.folder.name,
        "config": record.config if record else None,
        "deepspeed": record.deepspeed if record else None,
        "step": run.step,
        "max_steps": run.progress.max_steps if run.progress else None,
        "started": seconds_of(record.started) if record else run.begun,
        "ended": run.ended,
        "seconds_per_step": run.pace,
        "seconds_left": run.seconds_left,
        **{name: run.line.get(name) for name in ("loss", "eval_loss", "tokens_per_second")},
        "log_name": log,
        "log": tuple(line[-1000:] for line in end if line.strip())[-_LOG_LINES:],
        **_money(run),
    }


def find_run(state: RunState, now: float) -> Run | None:
    """The run that a status is about: the one that trains, else the one that was touched last."""
    record, active = state.record, state.supervised or bool(state.unsupervised)
    if state.supervised and record:
        folder = Path(record.output_dir)
    elif state.unsupervised:
        folder = next(iter(state.unsupervised))
    else:
        known = {path: read_progress(path) for path in _folders()}
        touched = {path: found.time if found else 0.0 for path, found in known.items() if found or _complete(path)}
        if record:
            path = Path(record.output_dir)
            touched[path] = max(touched.get(path, 0.0), seconds_of(record.ended or record.started))
        if not touched:
            return None
        folder = max(touched, key=lambda path: (touched[path], path))
    record = record if record and Path(record.output_dir) == folder else None
    progress = read_progress(folder)
    started = seconds_of(record.attempts[-1].started) if record and record.attempts else 0.0
    fresh = progress is not None and progress.started >= started - 5  # a clock may step some seconds
    lines = read_log(folder / TRAINING_LOG, progress.started) if progress and fresh else []
    return Run(folder, record, active, _complete(folder), progress, fresh, lines[-1] if lines else {}, now)


def judge(run: Run, state: RunState) -> tuple[str, str, str | None]:
    """A run's verdict, its state in words, and what is wrong with it."""
    record = run.record
    restarts = count(record.restarts if record else 0, "restart")
    if run.active and state.supervised and record:
        return RUNNING, f"running under the supervisor (process {record.pid}), {restarts}", why_stalled(run)
    if run.active and record and record.state == "running":
        return WRONG, "running without its supervisor", why_stalled(run) or state.reason
    if run.active:
        words = "running, started by hand (no supervisor: it is not started again after a crash)"
        return RUNNING, words, why_stalled(run)
    if record is None:
        return _ended_by_hand(run)
    if state.state == "complete":
        return COMPLETE, f"complete, {restarts}", None
    problem = state.reason or "no reason is on record"
    if "max_cost_usd" in problem:
        problem += "\nGo on with a larger max_cost_usd in its config:"
    return WRONG, f"{state.state}, {restarts}", problem


def _ended_by_hand(run: Run) -> tuple[str, str, str | None]:
    p, words = run.progress, "(started by hand, no supervisor's record)"
    if p is None:
        return UNKNOWN, "not running", "whether the run is complete is unknown: its last step is not on record"
    if p.max_steps in run.steps:
        return COMPLETE, f"complete {words}", None
    at = f"at step {max([p.step, *run.steps]):,} of {p.max_steps:,}"
    if p.stopped and p.step in run.steps:
        how = f"it stopped {at}, where its checkpoint is complete: {p.stopped}\nGo on: the same command again"
        return WRONG, f"stopped {words}", how
    unsaved = ", and its last checkpoint is not complete" if p.step >= p.max_steps else ""
    return WRONG, f"not running {words}", f"it ended {at}{unsaved}"


def why_stalled(run: Run) -> str | None:
    """Why a training that runs seems to stand still, or None."""
    p = run.progress
    if p is None or not run.fresh:
        waited = run.now - run.begun if run.begun else 0.0
        return f"no step for {duration(waited)} since its start; look at the log" if waited > START_PATIENCE else None
    limit = max(PATIENCE, PATIENT_STEPS * (run.pace or 0.0))
    quiet = run.now - p.time
    return f"no progress for {duration(quiet)}: step {p.step:,} was the last" if quiet > limit else None


def _money(run: Run) -> dict[str, float | None]:
    """By the training's own count, whose dollars an hour are the price; an idle machine costs, too."""
    account = run.progress.account if run.progress else None
    if not run.progress or not account or account.usd is None or not account.seconds:
        return {}
    price = account.usd / account.seconds  # a second
    since = run.progress.time if run.fresh else run.begun or run.now
    spent, left = account.usd + price * max(run.now - since, 0.0), run.seconds_left
    expected = None if left is None else spent + price * left
    return {"price_per_hour": 3600 * price, "spent_usd": spent, "expected_usd": expected}


def _folders() -> list[Path]:
    return sorted(path for path in Path("models").glob("*") if path.is_dir())


def _complete(folder: Path) -> tuple[int, ...]:
    return tuple(sorted(checkpoint_step(path) or 0 for path in list_checkpoints(folder) if (path / MANIFEST).is_file()))
