"""The status of an instance: the machine report and what is known on this computer, made into one answer.

Covers: which run, in which state, how far, how fast, until when, for how much; and what is wrong. What is not known is
None, with the reason in `unknown`; never 0. `make_status` is pure: reports and time come in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from socrates.errors import EXIT_CANNOT, EXIT_DONE, EXIT_NO, SocratesError
from socrates.phases import TEST_RUN, VALIDATION_RUN
from socrates.remote.instance import Instance, Unreachable
from socrates.remote.local import LocalState, MonitorRecord
from socrates.remote.status.machine_report import (
    GATHER,
    ConfigReport,
    MachineReport,
    RunReport,
    SupervisorReport,
    parse_report,
)
from socrates.remote.status.run_status import (
    COMPLETE,
    RUNNING,
    UNKNOWN,
    WRONG,
    RunStatus,
    Trend,
    choose_run,
    current_lines,
    find_run_status,
    is_older,
    loss_trend,
    seconds_per_step,
)
from socrates.remote.untrusted import CutOff, plain, plain_lines
from socrates.telemetry.gpus import GpuSample
from socrates.telemetry.log import LogLine

FULL_RUN = "socrates-qwen-full-dataset"
PHASES = {
    VALIDATION_RUN: "Phase 1: Hyperparameter Validation",
    TEST_RUN: "Phase 2: Infrastructure Test",
    FULL_RUN: "Phase 3: Full Training",
}
_ANSWER_PATIENCE = 120.0  # seconds
_EXIT = {RUNNING: EXIT_DONE, COMPLETE: EXIT_DONE, WRONG: EXIT_NO, UNKNOWN: EXIT_CANNOT}


@dataclass(frozen=True)
class Money:
    """US dollars of a run.

    By the training's own count where it has one: all its attempts, on any machine, without the time between them.
    Else counted from the run's first start on this machine, idle time included.
    """

    per_hour: float
    source: str
    since: float
    spent: float
    expected: float | None  # until the run's end
    idle: float | None  # of `spent`: since the run ended
    own_count: bool = False  # by the training itself


@dataclass(frozen=True)
class Status:
    """How a training stands. Times are seconds since 1970 by this computer's clock; None is unknown."""

    instance: str
    reached_by: str
    time: float
    verdict: str
    problem: str | None
    state: str
    phase: str | None = None
    run: str | None = None
    step: int | None = None
    max_steps: int | None = None
    started: float | None = None
    ended: float | None = None
    seconds_per_step: float | None = None
    seconds_left: float | None = None
    ends: float | None = None
    loss: float | None = None
    trend: Trend | None = None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    padding_share: float | None = None
    mfu: float | None = None  # model FLOPs utilisation, a share
    eval_loss: float | None = None  # the last that was measured
    money: Money | None = None
    restarts: int | None = None
    gpus: tuple[GpuSample, ...] = ()
    disk_free: int | None = None
    disk_total: int | None = None
    there: tuple[int, ...] | None = None  # steps of the complete checkpoints
    here: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    damaged: Mapping[int, str] = field(default_factory=dict)
    others: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # run -> checkpoints there, of these here
    monitor: MonitorRecord = field(default_factory=MonitorRecord)
    phases: tuple[tuple[str, bool | None, str], ...] = ()
    log_name: str | None = None
    log: tuple[str, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)  # what is not known, and why

    @property
    def exit_status(self) -> int:
        """0 running well or complete, 1 not, 2 cannot tell."""
        return _EXIT[self.verdict]


def request_report(instance: Instance) -> tuple[MachineReport | None, str]:
    """The machine report; else None, and why.

    Raises:
        SocratesError: there is no such instance.
    """
    try:
        done = instance.run(GATHER, timeout=_ANSWER_PATIENCE, check=False)
        said = plain_lines(done.stderr, 10)
        if done.status == EXIT_CANNOT and not done.stdout:  # tnr's own: it says what to do
            raise SocratesError(
                "\n".join(said).removeprefix("tnr: ").removeprefix("error: ") or f"instance {instance.id}: tnr failed"
            )
        if done.status and not done.stdout:
            return (
                None,
                f"the machine was reached, but the command failed (status {done.status}): {' '.join(said[-1:])}",
            )
        return parse_report(done.stdout), ""
    except Unreachable as error:
        return None, f"the machine cannot be reached: {plain(str(error), 300)}"
    except CutOff as error:
        return None, f"the machine was reached, but {error}"


def make_status(report: MachineReport | None, here: LocalState, now: float, unreachable: str = "") -> Status:
    """The status of an instance.

    Args:
        report: the machine's; None if it was not reached.
        here: what is known on this computer.
        now: this computer's time, seconds since 1970.
        unreachable: why it was not.
    """
    base = Status(
        here.instance,
        here.reached_by,
        now,
        UNKNOWN,
        unreachable,
        "unknown: the machine was not reached",
        monitor=here.monitor,
        phases=tuple((record.name, record.passed, record.text) for record in here.phases),
    )
    if report is None:
        steps = {run: (0, len(found)) for run, found in here.checkpoints.items() if found}
        return replace(base, others=steps)
    there_now = report.clock if report.clock is not None else now
    name = choose_run(report)
    run = report.runs.get(name or "", RunReport(name or ""))
    supervisor = report.supervisor if report.supervisor and report.supervisor.run == name else None
    settings = _settings(report, supervisor, run)
    steps = current_lines(run)
    pace = seconds_per_step(steps, run)
    resumable = bool(run.steps) or None in here.checkpoints.get(run.name, {}).values()
    run_status = find_run_status(report, supervisor, run, there_now, pace, settings, here.instance, resumable)
    found = _progress(run, supervisor, steps, settings, run_status)
    times = _times(run, supervisor, found, run_status, there_now, pace, now - there_now)
    log_name, log = _log(report, supervisor)
    gpu_unknown = {"gpus": report.gpu_problem} if report.gpu_problem else {}
    status = replace(
        base,
        verdict=run_status.verdict,
        problem=run_status.problem,
        state=run_status.text,
        phase=PHASES.get(name) if name else None,
        run=name,
        step=found.step,
        max_steps=found.max_steps,
        restarts=supervisor.restarts if supervisor else None,
        gpus=report.gpus,
        disk_free=report.disk_free,
        disk_total=report.disk_total,
        log_name=log_name,
        log=log,
        unknown={**gpu_unknown, **found.unknown, **times.unknown},
        seconds_per_step=pace,
        started=times.started,
        ended=times.ended,
        seconds_left=times.left,
        ends=times.ends,
        **_learning(run, steps),
        **_checkpoints(report, here, run),
    )
    return replace(status, money=_money(status, settings, now, steps[-1] if steps else None, now - there_now))


@dataclass(frozen=True)
class _Progress:
    step: int | None
    max_steps: int | None
    unknown: Mapping[str, str]


@dataclass(frozen=True)
class _Times:
    started: float | None
    ended: float | None
    left: float | None
    ends: float | None
    unknown: Mapping[str, str]


def _progress(
    run: RunReport,
    supervisor: SupervisorReport | None,
    lines: Sequence[LogLine],
    settings: ConfigReport | None,
    run_status: RunStatus,
) -> _Progress:
    unknown: dict[str, str] = {}
    goal = run.progress.max_steps if run.progress else None
    goal = goal or (lines[-1].max_steps if lines else None) or (settings.max_steps if settings else None)
    step = run.progress.step if run.progress else lines[-1].step if lines else None
    last = supervisor.attempts[-1] if supervisor and supervisor.attempts else None
    if run_status.active and last and last.started and is_older(run, last.started):
        step = last.from_step or None  # what is there is of an attempt before this one
        unknown["pace"] = "no step since this start yet: it loads the model and the data"
    if step is None and run.steps:
        step = run.steps[-1]
    if step is None:
        unknown["step"] = (
            "no step yet: it loads the model and the data" if run_status.active else "no step is on record"
        )
    if goal is None:
        unknown["max_steps"] = "its number of steps is not known before the first one"
    return _Progress(step, goal, unknown)


def _times(
    run: RunReport,
    supervisor: SupervisorReport | None,
    found: _Progress,
    run_status: RunStatus,
    now: float,
    pace: float | None,
    offset: float,
) -> _Times:
    """``now`` is the machine's time, ``offset`` what must be added to get this computer's."""
    unknown = dict[str, str]()
    first = None
    if run.first and run.first.time is not None and run.first.elapsed_s is not None:
        first = run.first.time - run.first.elapsed_s
    attempts = [attempt.started for attempt in supervisor.attempts] if supervisor else []
    candidates = [first, *attempts, supervisor.started if supervisor else None]
    candidates.append(run.progress.started if run.progress else None)
    started = min((moment for moment in candidates if moment is not None), default=None)
    if started is None:
        unknown["started"] = "no start is on record on this machine"
    ended = left = ends = None
    if not run_status.active:
        ended = (supervisor.ended if supervisor else None) or (run.progress.time if run.progress else None)
    elif run_status.stalled:
        unknown["left"] = "it makes no progress"
    elif found.step is None or found.max_steps is None or pace is None:
        lacking = {"step": "no step is done yet", "max_steps": "how many steps is not known"}
        unknown["left"] = next((why for name, why in lacking.items() if name in found.unknown), "the pace is not known")
    elif "pace" in found.unknown:
        left = (found.max_steps - found.step) * pace
    else:
        quiet = max(now - (run.progress.time if run.progress and run.progress.time else now), 0.0)
        left = max((found.max_steps - found.step) * pace - min(quiet, pace), 0.0)
    if left is not None:
        ends = now + left + offset
    shift = [None if moment is None else moment + offset for moment in (started, ended)]
    return _Times(shift[0], shift[1], left, ends, unknown)


def _learning(run: RunReport, lines: Sequence[LogLine]) -> dict[str, object]:
    last = lines[-1] if lines else LogLine()
    known = [line for line in run.lines if line.step is not None]
    return {
        "loss": last.loss,
        "trend": loss_trend(known),
        "learning_rate": last.learning_rate,
        "tokens_per_second": last.tokens_per_second,
        "padding_share": last.padding_share,
        "mfu": last.mfu,
        "eval_loss": next((line.eval_loss for line in reversed(lines) if line.eval_loss is not None), None),
    }


def _checkpoints(report: MachineReport, here: LocalState, run: RunReport) -> dict[str, object]:
    local = here.checkpoints.get(run.name, {})
    intact = tuple(sorted(step for step, wrong in local.items() if wrong is None))
    others = {
        name: (len(other.steps), len([s for s, w in here.checkpoints.get(name, {}).items() if w is None]))
        for name, other in report.runs.items()
        if name != run.name and other.steps
    }
    return {
        "there": run.steps,
        "here": intact,
        "missing": tuple(step for step in run.steps if step not in intact),
        "damaged": {step: wrong for step, wrong in sorted(local.items()) if wrong is not None},
        "others": others,
    }


def _money(
    status: Status, settings: ConfigReport | None, now: float, line: LogLine | None, offset: float
) -> Money | None:
    """``line`` is the log's last one of the present process; ``offset`` makes its time this computer's."""
    if settings is None or settings.price_per_hour is None or status.started is None:
        return None
    price, ended = settings.price_per_hour, status.ended if status.ended is not None else status.ends
    idle = None if status.ended is None else price * max(now - status.ended, 0.0) / 3600
    if line is not None and line.cost_usd is not None and line.time is not None:

        def counted(until: float) -> float:
            return line.cost_usd + price * max(until - offset - line.time, 0.0) / 3600

        spent = counted(now if status.ended is None else status.ended) + (idle or 0.0)
        expected = None if ended is None else counted(ended)
        return Money(price, settings.source, status.started, spent, expected, idle, own_count=True)
    hours = max(now - status.started, 0.0) / 3600
    expected = None if ended is None else price * max(ended - status.started, 0.0) / 3600
    return Money(price, settings.source, status.started, price * hours, expected, idle)


def _settings(report: MachineReport, supervisor: SupervisorReport | None, run: RunReport) -> ConfigReport | None:
    if supervisor and supervisor.config in report.configs:
        return report.configs[supervisor.config]
    matching = [settings for settings in report.configs.values() if settings.run == run.name]
    if run.trained is None and len(matching) == 1:
        return matching[0]
    if run.trained and run.trained.price_per_hour is None and len(matching) == 1:
        return replace(run.trained, price_per_hour=matching[0].price_per_hour, source=matching[0].source)
    return run.trained


def _log(report: MachineReport, supervisor: SupervisorReport | None) -> tuple[str | None, tuple[str, ...]]:
    if supervisor and supervisor.log in report.logs:
        return supervisor.log, report.logs[supervisor.log].lines
    newest = max(report.logs, key=lambda name: report.logs[name].changed or 0.0, default=None)
    return newest, report.logs[newest].lines if newest else ()
