"""Status of an instance: the machine's report and what is known on this computer, on one screen.

Covers: what is not known says so and is never 0; the machine's times are shown by this computer's clock. Does not
cover: how a training stands, which the machine itself works out (`machine/status.py`).
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from socrates.checkpoint import checkpoint_step, find_damage, list_checkpoints
from socrates.console import duration
from socrates.errors import EXIT_CANNOT, EXIT_DONE, EXIT_NO
from socrates.phases import TEST_RUN, VALIDATION_RUN
from socrates.remote.fetch import unfetchable
from socrates.remote.instance import Instance, Unreachable
from socrates.remote.listing import list_folders
from socrates.remote.local import MonitorRecord, read_monitor
from socrates.remote.machine_report import NotSetUp, OtherVersion, ask_machine
from socrates.telemetry.gpus import GpuSample
from socrates.telemetry.machine_report import COMPLETE, RUNNING, UNKNOWN, WRONG, MachineReport

PHASES = {
    VALIDATION_RUN: "Phase 1: Hyperparameter Validation",
    TEST_RUN: "Phase 2: Infrastructure Test",
    "socrates-qwen-full-dataset": "Phase 3: Full Training",
}
HEIGHT = 24
_EXIT = {RUNNING: EXIT_DONE, COMPLETE: EXIT_DONE, WRONG: EXIT_NO}
_TITLES = {RUNNING: "RUNNING", COMPLETE: "COMPLETE", WRONG: "SOMETHING IS WRONG"}


@dataclass(frozen=True)
class Status:
    """How an instance stands.

    Attributes:
        time: this computer's, seconds since 1970.
        monitor: its record here.
        here: the checkpoints on this computer: run -> step -> what is wrong; None where manifest and sizes are right.
        report: the machine's; None where there is none, and then ``problem`` says why.
    """

    instance: str
    time: float
    monitor: MonitorRecord
    here: Mapping[str, Mapping[int, str | None]] = field(default_factory=dict)
    report: MachineReport | None = None
    verdict: str = UNKNOWN
    problem: str | None = None

    @property
    def exit_status(self) -> int:
        """0 running well or complete, 1 not, 2 cannot tell."""
        return _EXIT.get(self.verdict, EXIT_CANNOT)


def find_status(instance: Instance) -> Status:
    """The status of an instance now; SocratesError where there is no such instance."""
    local = find_local_status(instance.root, instance.id)
    try:
        report = ask_machine(instance)
        status = add_report(replace(local, time=time.time()), report)
        lines = [status.problem, *unfetchable(list_folders(instance)[1], instance.root / "models")[:3]]
        return replace(status, problem="\n".join(filter(None, lines)) or None)
    except NotSetUp as error:
        return replace(local, time=time.time(), verdict=WRONG, problem=str(error))
    except (OtherVersion, Unreachable) as error:
        return replace(local, time=time.time(), problem=str(error))


def find_local_status(root: Path, instance: str) -> Status:
    """What is known on this computer; ``root`` is the project's folder."""
    here = {
        run.name: {checkpoint_step(folder) or 0: find_damage(folder, digest=None) for folder in folders}
        for run in sorted((root / "models").glob("*"))
        if (folders := list_checkpoints(run))
    }
    return Status(instance, time.time(), read_monitor(root, instance), here)


def add_report(local: Status, report: MachineReport) -> Status:
    """What is known here with the machine's report, and the command with which a run that has ended goes on."""
    problem, launch = [report.problem], f"./scripts/launch_full_training.sh {local.instance}"
    if report.run is None:
        problem.append(f"Start it: {launch}")
    elif report.verdict == WRONG and not report.active and report.config:
        goes_on = report.checkpoints.get(report.run) or None in local.here.get(report.run, {}).values()
        how = f"Go on from the newest checkpoint: {launch} --resume" if goes_on else f"Start it over: {launch}"
        files = f"--config {shlex.quote(report.config)} --deepspeed {shlex.quote(report.deepspeed or '')}"
        problem.append(f"{how} \\\n  {files}")
    return replace(local, report=report, verdict=report.verdict, problem="\n".join(filter(None, problem)) or None)


def screen(status: Status, width: int) -> str:
    """The screen as text: no line wider than ``width``, no more than 24 lines; in colours on a terminal."""
    from rich.console import Console
    from rich.text import Text

    console, lines = Console(width=width, highlight=False), []

    def add(text: str, style: str = "", *, wraps: bool = False) -> None:
        with console.capture() as capture:
            console.print(Text(text, style), no_wrap=not wraps, overflow="fold" if wraps else "ellipsis")
        lines.extend(line.rstrip() for line in capture.get().splitlines())

    title, moment = f"Instance {status.instance}: {_TITLES.get(status.verdict, 'CANNOT TELL')}", _moment(status.time)
    room = max(width - len(moment), 1)
    add(f"{title[: room - 1]:<{room}}{moment}", "bold red" if status.exit_status else "bold")
    for line in (status.problem or "").splitlines():
        add(f"  {line}", wraps=True)
    add("")
    for label, text in _rows(status):
        add(f"{label:<12} {text}")
    r, room = status.report, HEIGHT - 1 - len(lines)
    if r and r.log and status.verdict not in (RUNNING, COMPLETE) and room > 0:
        for line in (f"The end of {r.log_name}:", *(f"  {line}" for line in r.log[-room:])):
            add(line)
    return "\n".join(lines[:HEIGHT])


def _rows(status: Status) -> list[tuple[str, str]]:
    r, here = status.report, status.here
    monitor = ("Monitor", _monitor(status))
    if r is None:
        local = "; ".join(f"{run}: {len(found)}" for run, found in here.items() if found)
        return [("Checkpoints", f"here: {local or 'none'}"), monitor]
    return [
        ("Run", "none" if r.run is None else f"{PHASES[r.run]} ({r.run})" if r.run in PHASES else r.run),
        ("State", r.state),
        ("Progress", _progress(r)),
        ("Time", _time(r, status.time - r.time)),
        ("Learning", _learning(r)),
        ("Money", _money(r)),
        ("GPUs", _gpus(r.gpus)),
        ("Disk", f"{r.disk_free / 2**30:,.1f} GiB free of {r.disk_total / 2**30:,.1f}"),
        ("Checkpoints", _checkpoints(r.checkpoints.get(r.run or "", ()), here.get(r.run or "", {}))),
        monitor,
    ]


def _progress(r: MachineReport) -> str:
    if r.step is None:
        return f"unknown: {'no step yet: it loads the model and the data' if r.active else 'no step is on record'}"
    if r.max_steps is None:
        return f"step {r.step:,} of unknown"
    share = min(r.step / max(r.max_steps, 1), 1.0)
    percent = int(share * 1000) / 10  # not rounded up: 100% is the end
    return f"[{'#' * int(share * 40):.<40}] step {r.step:,} of {r.max_steps:,} ({percent:.1f}%)"


def _time(r: MachineReport, offset: float) -> str:
    """``offset``: what makes the machine's time ours."""
    if r.started is None:
        return "unknown: no start is on record on this machine"
    spent = f"{duration((r.ended or r.time) - r.started)} since {_moment(r.started + offset)}"
    if r.ended is not None:
        return f"{spent}; ended {_moment(r.ended + offset)}"
    if r.seconds_left is None:
        return f"{spent}; time left unknown"
    return f"{spent}; about {duration(r.seconds_left)} left, ends {_moment(r.time + r.seconds_left + offset)}"


def _learning(r: MachineReport) -> str:
    if r.loss is None:
        return "loss unknown: nothing is logged since this start"
    held_out = "" if r.eval_loss is None else f" (on evaluation rows {r.eval_loss:.4g})"
    speed = f"{_number(r.tokens_per_second, ',.0f')} tokens a second, {_number(r.seconds_per_step, '.3g')} s a step"
    return f"loss {r.loss:.4g}{held_out}; {speed}"


def _money(r: MachineReport) -> str:
    if r.spent_usd is None or r.price_per_hour is None:
        return "unknown: nothing counted yet, or no price_per_hour; an idle machine costs, too"
    end = "" if r.expected_usd is None else f", about ${r.expected_usd:,.2f} at the run's end"
    return f"${r.spent_usd:,.2f} so far{end}; ${r.price_per_hour:,.2f} an hour, idle time too"


def _gpus(gpus: Sequence[GpuSample]) -> str:
    if not gpus:
        return "unknown: no nvidia-smi, or it gives no answer"
    used = [gpu.memory_mib for gpu in gpus if gpu.memory_mib is not None]
    memory = f"; up to {max(used) / 1024:.1f} of {(gpus[0].memory_total_mib or 0) / 1024:.1f} GiB" if used else ""
    busy = " ".join("?" if gpu.utilization is None else f"{gpu.utilization:.0f}%" for gpu in gpus[:16])
    return f"{len(gpus)} x {gpus[0].name[:40]}: busy now {busy}{memory}"


def _checkpoints(there: Sequence[int], local: Mapping[int, str | None]) -> str:
    """``local``: step -> what is wrong with it, or None."""
    intact = [step for step in sorted(local) if local[step] is None]
    text = f"there: {shorten(there)}; here: {len(set(there) & set(intact))} of {len(there)}"
    if not there:
        text = f"there: none; here: {shorten(intact)}"
    if absent := [step for step in there if step not in local]:
        text += f", missing {shorten(absent)}"
    if damaged := [step for step in sorted(local) if local[step] is not None]:
        step = damaged[0]
        text += f"; checkpoint-{step}: {local[step]}; again: ./scripts/download_checkpoint.sh {step}"
    return text


def _monitor(status: Status) -> str:
    monitor = status.monitor
    last = "" if monitor.last_round is None else f", last round {duration(status.time - monitor.last_round)} ago"
    if monitor.running:
        problem = f"; {monitor.unsolved[-1]}" if monitor.unsolved else ""
        last = last or f", {monitor.damage or 'no round yet'}"
        return f"running (process {monitor.pid or 'unknown'}){last}{problem}"
    if status.report and status.report.active:
        return f"NOT RUNNING; start it: ./scripts/monitor_checkpoints.sh {status.instance} 300"
    return f"not running{last}"


def shorten(steps: Sequence[int]) -> str:
    """Steps in few words: "10, 20 (2)", "500 ... 11000 (22)", "none"."""
    if not steps:
        return "none"
    names = ", ".join(map(str, steps)) if len(steps) <= 5 else f"{steps[0]} ... {steps[-1]}"
    return f"{names} ({len(steps)})"


def _number(value: float | None, form: str) -> str:
    return "unknown" if value is None else f"{value:{form}}"


def _moment(seconds: float) -> str:
    """A local time: "Tue 24 Nov 07:31"."""
    return f"{datetime.fromtimestamp(seconds):%a %d %b %H:%M}"
