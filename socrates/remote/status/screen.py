"""The status screen for a person who opens the laptop in the morning: at most 24 lines; and the keys to watch it by."""

from __future__ import annotations

import dataclasses
import os
import select
import sys
import textwrap
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from socrates.console import duration
from socrates.remote.local import MonitorRecord
from socrates.remote.status.run_status import COMPLETE, RUNNING, WRONG
from socrates.remote.status.summary import Money, Status
from socrates.telemetry.gpus import GpuSample

WIDTH, HEIGHT = 100, 24
_LABEL = 13
_BAR = 40
_VERDICTS = {RUNNING: "RUNNING", COMPLETE: "COMPLETE", WRONG: "SOMETHING IS WRONG"}
_MOST_GPUS = 8


def status_screen(status: Status, width: int = WIDTH, height: int = HEIGHT) -> str:
    """The screen: no line wider than ``width`` columns, no more than ``height`` lines, no control characters."""
    head = [_title(status, width), *_problem(status, width)]
    body = [line for part in _body(status) for line in part]
    log = _log(status) if status.verdict != RUNNING and status.verdict != COMPLETE else []
    room = height - len(head) - len(body)
    if log and room < 2:  # what is wrong matters more than what each GPU does
        body = [line for line in body if not line.startswith(("GPU ", "Others"))]
        room = height - len(head) - len(body)
    tail = [log[0], *log[1:][-max(room - 1, 0) :]] if log and room >= 2 else []
    lines = [*head, *body, *tail][:height]
    if len(lines) < height:
        lines.insert(len(head), "")
    return "\n".join(_cut(line, width) for line in lines)


def as_json(status: Status) -> dict[str, Any]:
    """The same as plain JSON values; times in seconds since 1970."""
    value = dataclasses.asdict(status)
    value["monitor"]["downloaded"] = sorted(map(list, status.monitor.downloaded))
    value["exit_status"] = status.exit_status
    return value


def shorten(steps: Sequence[int]) -> str:
    """Steps in few words: "10, 20 (2)", "500 ... 11000 (22)", "none"."""
    if not steps:
        return "none"
    names = ", ".join(map(str, steps)) if len(steps) <= 5 else f"{steps[0]} ... {steps[-1]}"
    return f"{names} ({len(steps)})"


def _title(status: Status, width: int) -> str:
    left = f"Instance {status.instance} ({status.reached_by}): {_VERDICTS.get(status.verdict, 'CANNOT TELL')}"
    right = _moment(status.time)
    return f"{left:<{width - len(right) - 1}} {right}" if len(left) + len(right) < width else left


def _problem(status: Status, width: int) -> list[str]:
    if not status.problem:
        return []
    wrapped = (textwrap.wrap(part, width - 2, max_lines=3) for part in status.problem.split("\n"))
    return [f"  {line}" for lines in wrapped for line in lines]


def _body(status: Status) -> list[list[str]]:
    records = _line("On record", "   ".join(_record(*phase) for phase in status.phases))
    if status.there is None:  # there is no machine report
        here = [f"{run}: {here}" for run, (_, here) in status.others.items()]
        checkpoints = _line("Checkpoints", f"here: {'; '.join(here) or 'none'}")
        return [checkpoints, _line("Monitor", _monitor(status, active=None)), records]
    return [
        _line("Run", _run(status)),
        _line("State", status.state),
        _line("Progress", _progress(status)),
        _line("Time", _time(status)),
        _line("Learning", _learning(status)),
        _line("Speed", _speed(status)),
        *_money(status),
        _gpus(status),
        _line("Disk", _disk(status)),
        _line("Checkpoints", _checkpoints(status)),
        _line("Damaged", _damaged(status)),
        _line("Others", _others(status.others)) if status.others else [],
        _line("Monitor", _monitor(status, active=status.verdict == RUNNING or status.seconds_left is not None)),
        records,
    ]


def _line(label: str, text: str) -> list[str]:
    return [f"{label:<{_LABEL}}{text}"] if text else []


def _run(status: Status) -> str:
    if status.run is None:
        return "none"
    return f"{status.phase} ({status.run})" if status.phase else status.run


def _progress(status: Status) -> str:
    why = status.unknown
    if status.step is None:
        return f"unknown: {why.get('step', 'no step is on record')}"
    if status.max_steps is None:
        return f"step {status.step:,} of unknown: {why.get('max_steps', '')}"
    share = min(status.step / status.max_steps, 1.0)
    filled = int(share * _BAR)
    percent = int(share * 1000) / 10  # not rounded up: 100% is the end
    return f"[{'#' * filled}{'.' * (_BAR - filled)}] step {status.step:,} of {status.max_steps:,} ({percent:.1f}%)"


def _time(status: Status) -> str:
    if status.started is None:
        return f"unknown: {status.unknown.get('started', 'no start is on record')}"
    begin = f"since {_moment(status.started)}"
    if status.ended is not None:
        return f"{duration(status.ended - status.started)} {begin}; ended {_moment(status.ended)}"
    spent = f"{duration(status.time - status.started)} {begin}"
    if status.seconds_left is None or status.ends is None:
        return f"{spent}; time left unknown: {status.unknown.get('left', 'the pace is not known')}"
    return f"{spent}; about {duration(status.seconds_left)} left, ends {_moment(status.ends)}"


def _learning(status: Status) -> str:
    if status.loss is None:
        return "loss unknown: nothing is logged since this start"
    text = f"loss {status.loss:.4g}"
    if status.trend is not None:
        t = status.trend
        if status.eval_loss is None:
            text += f", {t.word} over the last {t.lines} lines ({t.before:.4g} -> {t.after:.4g})"
        else:
            text += f", {t.word} over {t.lines} lines"
    if status.eval_loss is not None:
        text += f"; on evaluation rows {status.eval_loss:.4g}"
    rate = "unknown" if status.learning_rate is None else f"{status.learning_rate:.3g}"
    return f"{text}; learning rate {rate}"


def _speed(status: Status) -> str:
    tokens = status.tokens_per_second
    pace = status.seconds_per_step
    speed = "tokens a second unknown" if tokens is None else f"{tokens:,.0f} tokens a second"
    text = f"{speed}, {'unknown' if pace is None else f'{pace:.3g}'} seconds a step"
    shares = (("padding", status.padding_share), ("FLOPs utilisation", status.mfu))
    return ", ".join([text, *(f"{name} {share:.1%}" for name, share in shares if share is not None)])


def _money(status: Status) -> list[list[str]]:
    money = status.money
    if money is None:
        why = "no start is on record" if status.started is None else "no price_per_hour in the config there"
        return [_line("Money", f"unknown: {why}; an idle machine costs, too")]
    hours = (status.time - money.since) / 3600
    counted = f"{hours:.1f} h at ${money.per_hour:,.2f} an hour since the run's first start there"
    if money.own_count:
        counted = f"all attempts, by the training's own count; now ${money.per_hour:,.2f} an hour"
    return [_line("Money", _spent(money)), [f"{'':<{_LABEL}}{counted}; idle time costs too"]]


def _spent(money: Money) -> str:
    so_far = f"${money.spent:,.2f} so far"
    if money.expected is None:
        return f"{so_far}; in all unknown"
    if money.idle is None:
        return f"{so_far}, about ${money.expected:,.2f} at the run's end"
    return f"{so_far}: ${money.expected:,.2f} until the run ended, ${money.idle:,.2f} idle since then"


def _gpus(status: Status) -> list[str]:
    if not status.gpus:
        return _line("GPUs", f"unknown: {status.unknown.get('gpus', 'not reported')}")
    lines = [f"{f'GPU {gpu.index}':<{_LABEL}}{_gpu(gpu)}" for gpu in status.gpus[:_MOST_GPUS]]
    more = len(status.gpus) - _MOST_GPUS
    return [*lines[:-1], f"{lines[-1]}   (and {more} more)"] if more > 0 else lines


def _gpu(gpu: GpuSample) -> str:
    use = "  ?" if gpu.utilization is None else f"{gpu.utilization:3.0f}"
    used, total = (None if mib is None else mib / 1024 for mib in (gpu.memory_mib, gpu.memory_total_mib))
    memory = f"{'?' if used is None else f'{used:.1f}':>5} of {'?' if total is None else f'{total:.1f}'} GiB"
    return f"{use}% busy now, {memory}   {gpu.name}"


def _disk(status: Status) -> str:
    if status.disk_free is None or status.disk_total is None:
        return "unknown: df did not tell"
    return f"{status.disk_free / 2**30:,.1f} GiB free of {status.disk_total / 2**30:,.1f}"


def _checkpoints(status: Status) -> str:
    there = status.there or ()
    text = f"there: {shorten(there)}"
    if there:
        text += f"; here: {len(there) - len(status.missing)} of {len(there)}"
    elif status.here:
        text += f"; here: {shorten(status.here)}"
    absent = [step for step in status.missing if step not in status.damaged]
    if absent:
        text += f", missing {_few(absent)}"
    return text


def _damaged(status: Status) -> str:
    if not status.damaged:
        return ""
    step, reason = next(iter(status.damaged.items()))
    more = "" if len(status.damaged) == 1 else f" (first of {len(status.damaged)})"
    return f"here, checkpoint-{step}: {reason}{more}; again: ./scripts/download_checkpoint.sh {step}"


def _few(steps: Sequence[int]) -> str:
    names = ", ".join(map(str, steps[:4]))
    return names if len(steps) <= 4 else f"{names} and {len(steps) - 4} more"


def _others(others: Mapping[str, tuple[int, int]]) -> str:
    return "; ".join(f"{run}: {there} there, {here} of these here" for run, (there, here) in others.items())


def _monitor(status: Status, active: bool | None) -> str:
    monitor = status.monitor
    start = f"./scripts/monitor_checkpoints.sh {status.instance} 300"
    if monitor.running is None:
        return "unknown: its lock cannot be read"
    if not monitor.running:
        if active:
            return f"NOT RUNNING; start it: {start}"
        needed = f"; checkpoints are missing here: {start}" if status.missing else ""
        return f"not running{_last_round(monitor, status.time, ', ')}{needed}"
    text = f"running (process {monitor.pid or 'unknown'}){_last_round(monitor, status.time, ', ')}"
    return f"{text}; {monitor.unsolved[-1]}" if monitor.unsolved else text


def _last_round(monitor: MonitorRecord, now: float, before: str) -> str:
    if monitor.last_round is None:
        return f"{before}no round yet" if monitor.running else ""
    return f"{before}last round {duration(now - monitor.last_round)} ago"


def _record(name: str, passed: bool | None, text: str) -> str:
    if passed is None:
        short = "NOT DECIDED" if text.startswith("NOT DECIDED") else "nothing"
    else:
        short = text.partition(" (")[0]
    return f"{name.partition(' (')[0]}: {short}"


def _log(status: Status) -> list[str]:
    return [f"The end of {status.log_name}:", *(f"  {line}" for line in status.log)] if status.log else []


def _moment(seconds: float) -> str:
    """A local time: "Tue 24 Nov 07:31"."""
    try:
        return f"{datetime.fromtimestamp(seconds):%a %d %b %H:%M}"
    except (ValueError, OverflowError, OSError):
        return "at an impossible time"


def _cut(line: str, width: int) -> str:
    """A line in at most ``width`` columns; wide characters take two, combining ones none."""
    clean = "".join(c for c in line if unicodedata.category(c)[0] != "C")
    if _columns(clean) <= width:
        return clean.rstrip()
    while _columns(clean) > width - 3:
        clean = clean[: -1 - max(0, (_columns(clean) - width) // 2)]
    return f"{clean.rstrip()}..."


def _columns(text: str) -> int:
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) != 0 for c in text)


@contextmanager
def single_keys() -> Iterator[Callable[[float], bool]]:
    """Single keys from the terminal, where standard input is one; yields "wait so long, was q pressed?"."""
    terminal = sys.stdin.fileno() if sys.stdin and sys.stdin.isatty() else None

    def pressed_q(seconds: float) -> bool:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if terminal is None:
                time.sleep(left)
            elif select.select([terminal], [], [], left)[0] and os.read(terminal, 1) in (b"q", b"Q", b""):
                return True
        return False

    if terminal is None:
        yield pressed_q
        return
    import termios
    import tty

    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield pressed_q
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
