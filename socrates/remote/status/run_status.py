"""Run status: which run of a machine a status is about, whether it trains, is complete or in trouble, and how fast.

Covers: locks, which the kernel frees however a process ends, decide who lives; the record says what was meant; the
progress says whether anything moves. Pure.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean

from socrates.console import describe_exit, duration
from socrates.remote.status.machine_report import (
    AttemptReport,
    ConfigReport,
    MachineReport,
    RunReport,
    SupervisorReport,
)
from socrates.telemetry.log import LogLine

RUNNING, COMPLETE, WRONG, UNKNOWN = "running", "complete", "wrong", "unknown"
_CONFIG = "config_full_dataset.json"  # what a launch takes by itself
_DEEPSPEED = {"config_test_run.json": "deepspeed_config_test.json"}
_RECENT = 10  # lines of the training log that tell the pace
_TREND = 20  # lines of the training log that tell the trend
PATIENCE = 15 * 60.0  # seconds without a step; or that many steps, where these take longer
PATIENT_STEPS = 10
START_PATIENCE = 60 * 60.0  # seconds until the first step: a model is downloaded, 2.9 million rows are tokenized


@dataclass(frozen=True)
class RunStatus:
    """Whether a run is being trained.

    Attributes:
        verdict: RUNNING, COMPLETE, WRONG or UNKNOWN.
        text: the state in words.
        problem: what is wrong, and what to do; None if nothing is.
        active: whether processes train now.
        stalled: whether they make no progress.
    """

    verdict: str
    text: str
    problem: str | None = None
    active: bool = False
    stalled: bool = False


def choose_run(report: MachineReport) -> str | None:
    """The run that a status is about: the supervisor's while it lives, else one that is trained, else the latest."""
    supervisor = report.supervisor
    if report.supervised and supervisor and supervisor.run:
        return supervisor.run
    if report.trained:
        return report.trained[0]
    moments = {name: (_touched(run), run.steps[-1:]) for name, run in report.runs.items()}
    if supervisor and supervisor.run:
        moment, steps = moments.get(supervisor.run, (0.0, ()))
        moments[supervisor.run] = (max(moment, supervisor.ended or supervisor.started or 0.0), steps)
    return max(moments, key=lambda name: (*moments[name], name), default=None)


def find_run_status(
    report: MachineReport,
    supervisor: SupervisorReport | None,
    run: RunReport,
    now: float,
    pace: float | None,
    settings: ConfigReport | None,
    instance: str,
    resumable: bool,
) -> RunStatus:
    """In which state a run is; a problem's second line is what to do.

    ``now`` is the machine's time; ``resumable``: there or here is a checkpoint to go on from.
    """
    if not report.installed:
        setup = f"Set it up: ./run_remote_setup.sh {instance}"
        return RunStatus(WRONG, "nothing is installed", f"there is no ~/socrates-training\n{setup}")
    if report.supervised:
        return _warned(_supervised(supervisor, run, now, pace), supervisor, run)
    if run.name in report.trained:
        return _warned(_unsupervised(supervisor, run, now, pace), supervisor, run)
    if supervisor is None:
        return _by_hand(report, run, settings, instance)
    return _ended(report, supervisor, instance, resumable)


def _supervised(supervisor: SupervisorReport | None, run: RunReport, now: float, pace: float | None) -> RunStatus:
    if supervisor is None or supervisor.state != "running":
        return RunStatus(RUNNING, "starting: the supervisor has just begun", active=True)
    words = f"running under the supervisor (process {supervisor.pid or 'unknown'})"
    last = supervisor.attempts[-1] if supervisor.attempts else None
    problem = stalled(run, (last.started if last else None) or supervisor.started, now, pace)
    restarts = restarts_in_words(supervisor)
    return RunStatus(WRONG if problem else RUNNING, f"{words}, {restarts}", problem, active=True, stalled=bool(problem))


def _unsupervised(supervisor: SupervisorReport | None, run: RunReport, now: float, pace: float | None) -> RunStatus:
    begun = run.progress.started if run.progress else None
    problem = stalled(run, begun, now, pace)
    if supervisor is not None and supervisor.state == "running":
        gone = "the supervisor is gone: the training runs on, but nothing would start it again after a crash"
        return RunStatus(WRONG, "running without its supervisor", problem or gone, active=True, stalled=bool(problem))
    words = "running, started by hand (no supervisor: it is not started again after a crash)"
    return RunStatus(WRONG if problem else RUNNING, words, problem, active=True, stalled=bool(problem))


def _warned(run_status: RunStatus, supervisor: SupervisorReport | None, run: RunReport) -> RunStatus:
    """The run status with what the training itself finds wrong: a bad loss, GPUs that idle."""
    last = supervisor.attempts[-1].started if supervisor and supervisor.attempts else None
    if run.progress is None or (last is not None and is_older(run, last)):  # of an attempt before this one
        return run_status
    warnings = [f"warning: {text}" for text in run.progress.warnings]
    if not warnings:
        return run_status
    problems = [run_status.problem] if run_status.problem else []
    return replace(run_status, verdict=WRONG, problem="\n".join([*problems, *warnings]))


def _by_hand(report: MachineReport, run: RunReport, settings: ConfigReport | None, instance: str) -> RunStatus:
    if report.supervisor_problem and not run.name:
        return RunStatus(WRONG, "unknown", f"{report.supervisor_problem}, and no run is there")
    if not run.name:
        return RunStatus(WRONG, "nothing was ever started", f"Start it: ./scripts/launch_full_training.sh {instance}")
    goal = (run.progress.max_steps if run.progress else None) or (settings.max_steps if settings else None)
    step = max([run.progress.step if run.progress else 0, *run.steps])
    if goal and step >= goal and goal in run.steps:
        return RunStatus(COMPLETE, "complete (started by hand, no supervisor's record)")
    if goal is None and run.progress is None:
        return RunStatus(
            UNKNOWN, "not running", "whether the run is complete is unknown: its last step is not on record"
        )
    if run.progress and run.progress.stopped and run.progress.step in run.steps:
        how = f"it stopped at step {step:,}" + (f" of {goal:,}" if goal else "")
        problem = f"{how}, where its checkpoint is complete: {run.progress.stopped}\nGo on: the same command again"
        return RunStatus(WRONG, "stopped (started by hand, no supervisor's record)", problem)
    ended = f"it ended at step {step:,}" + (f" of {goal:,}" if goal else "")
    unsaved = ", and its last checkpoint is not complete" if goal and step >= goal else ""
    return RunStatus(WRONG, "not running (started by hand, no supervisor's record)", f"{ended}{unsaved}")


def _ended(report: MachineReport, supervisor: SupervisorReport, instance: str, resumable: bool) -> RunStatus:
    restarts = restarts_in_words(supervisor)
    if supervisor.state == "complete":
        return RunStatus(COMPLETE, f"complete, {restarts}")
    how, resume = ("Go on from the newest checkpoint", " --resume") if resumable else ("Start it over", "")
    go_on = f"{how}: ./scripts/launch_full_training.sh {instance}{resume}{_files(supervisor)}"
    if supervisor.state == "failed":
        return RunStatus(WRONG, f"failed, {restarts}", f"{supervisor.reason or 'no reason is on record'}\n{go_on}")
    if supervisor.state == "stopped" and "max_cost_usd" in supervisor.reason:
        go_on = f"{go_on}\nwith a larger max_cost_usd in its config"
    if supervisor.state == "stopped":
        return RunStatus(WRONG, f"stopped, {restarts}", f"{supervisor.reason or 'it was stopped'}\n{go_on}")
    if report.supervised is None:
        return RunStatus(UNKNOWN, "unknown", "whether the supervisor lives is unknown (no flock there)")
    why = "the supervisor was ended by force, and nothing trains"
    if supervisor.boot_id and report.boot_id and supervisor.boot_id != report.boot_id:
        why = "the machine was restarted, and nothing trains"
    return RunStatus(WRONG, "not running", f"{why}\n{go_on}")


def _files(supervisor: SupervisorReport) -> str:
    """The options of a launch that name the run's files, where they are not what it takes by itself."""
    config = supervisor.config or _CONFIG
    usual = {"--config": _CONFIG, "--deepspeed": _DEEPSPEED.get(config, "deepspeed_config.json")}
    named = {"--config": config, "--deepspeed": supervisor.deepspeed}
    return "".join(
        f" {option} {shlex.quote(file)}" for option, file in named.items() if file not in ("", usual[option])
    )


def stalled(run: RunReport, begun: float | None, now: float, pace: float | None) -> str | None:
    """Why a training that runs seems to stand still, or None. Times are the machine's.

    Before the first step a model is downloaded and data tokenized, which may take an hour.
    """
    progress = run.progress
    if progress is None or progress.time is None or (begun is not None and is_older(run, begun)):
        if begun is not None and now - begun > START_PATIENCE:
            return f"no step for {duration(now - begun)} since its start; look at the log"
        return None
    limit = max(PATIENCE, PATIENT_STEPS * (pace or 0.0))
    if progress.max_steps is not None and progress.step >= progress.max_steps:
        limit = max(limit, START_PATIENCE / 2)  # it saves the last checkpoint and leaves
    quiet = now - progress.time
    return f"no progress for {duration(quiet)}: step {progress.step:,} was the last" if quiet > limit else None


def restarts_in_words(supervisor: SupervisorReport) -> str:
    """How often a run was started again, and after what the last time."""
    if supervisor.restarts is None:
        return "restarts unknown"
    if supervisor.restarts == 0:
        return "no restart"
    crashed = [attempt for attempt in supervisor.attempts[:-1] if attempt.exit_status is not None]
    times = "1 restart" if supervisor.restarts == 1 else f"{supervisor.restarts} restarts"
    return times + (f" (the last after {_crash(crashed[-1])})" if crashed else "")


def _touched(run: RunReport) -> float:
    last = [line.time for line in run.lines[-1:]]
    return max((time for time in [*last, run.progress.time if run.progress else None] if time), default=0.0)


def is_older(run: RunReport, moment: float) -> bool:
    """Whether a run's progress is older than a moment (a clock's step of some seconds aside)."""
    return run.progress is None or run.progress.started is None or run.progress.started < moment - 5


def _crash(attempt: AttemptReport) -> str:
    reached = "an unknown step" if attempt.reached_step is None else f"step {attempt.reached_step:,}"
    status = describe_exit(attempt.exit_status or 0) if attempt.exit_status is not None else "it ended"
    return f"{reached}: {status.partition(' (')[0]}"


@dataclass(frozen=True)
class Trend:
    """The loss over the last lines of the log: means of their first and last quarter, and how many they were."""

    before: float
    after: float
    lines: int

    @property
    def word(self) -> str:
        """Falling, rising or level (within 1%)."""
        if abs(self.after - self.before) <= 0.01 * abs(self.before):
            return "level"
        return "falling" if self.after < self.before else "rising"


def current_lines(run: RunReport) -> tuple[LogLine, ...]:
    """The training log's lines of the last start that has any: steps and elapsed time grow within one."""
    lines = [line for line in run.lines if line.step is not None and line.time is not None]
    start = 0
    for at, (before, line) in enumerate(pairwise(lines), start=1):
        if line.is_of_new_process(before):
            start = at
    return tuple(lines[start:])


def seconds_per_step(lines: Sequence[LogLine], run: RunReport) -> float | None:
    """Seconds a step by the last lines of one start; by the progress since its begin where there are none."""
    recent = lines[-_RECENT:]
    if len(recent) >= 2 and recent[-1].time > recent[0].time:
        return (recent[-1].time - recent[0].time) / (recent[-1].step - recent[0].step)
    p = run.progress
    if p is None or p.time is None or p.started is None or p.started_step is None:
        return None
    return (p.time - p.started) / (p.step - p.started_step) if p.step > p.started_step and p.time > p.started else None


def loss_trend(lines: Sequence[LogLine]) -> Trend | None:
    """Where the loss goes; None with fewer than four values."""
    losses = [line.loss for line in lines[-_TREND:] if line.loss is not None]
    if len(losses) < 4:
        return None
    part = len(losses) // 4
    return Trend(fmean(losses[:part]), fmean(losses[-part:]), len(losses))
