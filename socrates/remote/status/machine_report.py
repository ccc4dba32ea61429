"""The machine report: the one command that a training machine is asked with, and its answer, read with distrust.

Covers: supervisor, locks, progress, training logs, checkpoints, configs, the ends of the text logs, GPUs and disk; a
file of any size costs at most some KB; nothing is changed there; what is missing, half written, hostile or of a wrong
type becomes None. The machine needs bash and coreutils; locks need flock (util-linux).
Does not cover: what it means (`summary.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from socrates.files import finite, whole_number
from socrates.remote.instance import REMOTE_ROOT
from socrates.remote.untrusted import FINISH, PRELUDE, answer_sections, json_object, plain, plain_lines
from socrates.telemetry.gpus import GpuSample, parse_gpus
from socrates.telemetry.log import YEAR_3000, LogLine, Progress, parse_log, parse_progress

LINES = 50  # of a training log
_TEXTS = 4  # of a list of warnings


_BODY = r"""
name='^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'
date '+%s.%N' | give clock 100
date '+%F %T %Z' | give date 100
{ cat /proc/sys/kernel/random/boot_id 2>/dev/null; } | give boot 100
(cd /proc && printf '%s ' [0-9]*) 2>/dev/null | give pids 1000000
if command -v nvidia-smi >/dev/null; then
  timeout 15 nvidia-smi --query-gpu=index,utilization.gpu,memory.used,memory.total,name --format=csv,noheader,nounits \
    2>&1 </dev/null | give gpus 20000
fi
if cd "$ROOT" 2>/dev/null; then
  { df -PB1 models/. 2>/dev/null || df -PB1 .; } | tail -n 1 | give disk 1000
  [[ ! -f .run/state.json ]] || give state 400000 <.run/state.json
  for lock in .run/lock models/*/.training.lock; do
    [[ -f $lock ]] || continue
    held=1
    { ! command -v flock >/dev/null || { flock -n -s -E 75 9; held=$?; }; } 9<"$lock"
    { printf '%s ' "$held"; head -n 1 "$lock"; } 2>/dev/null | give "lock $lock" 300
  done
  count=0
  for file in *.json; do
    [[ $file =~ $name && -f $file ]] && ((++count <= 40)) && give "config $file" 65536 <"$file"
  done
  count=0
  for file in *.log; do
    [[ $file =~ $name && -f $file ]] && ((++count <= 20)) || continue
    stat -L -c '%Y' -- "$file" | give "changed $file" 100
    tail -c 8192 -- "$file" | give "log $file" 8192
  done
  count=0
  for folder in models/*/; do
    run=${folder#models/} run=${run%/}
    [[ $run =~ $name ]] || continue
    newest=-1 steps=''
    for manifest in "$folder"checkpoint-*/manifest.json; do
      step=${manifest%/manifest.json} step=${step##*/checkpoint-}
      [[ $step =~ ^(0|[1-9][0-9]{0,11})$ && -f $manifest ]] || continue
      steps+=" $step"
      ((step <= newest)) || newest=$step
    done
    files=0
    for file in .progress.json training_log.jsonl .training.lock; do [[ ! -f $folder$file ]] || files=1; done
    [[ $newest != -1 || $files == 1 ]] && ((++count <= 30)) || continue
    give "steps $run" 1000000 <<<"$steps"
    [[ ! -f ${folder}.progress.json ]] || give "progress $run" 16384 <"${folder}.progress.json"
    if [[ -f ${folder}training_log.jsonl ]]; then
      head -n 1 "${folder}training_log.jsonl" | give "first $run" 8192
      tail -c 65536 "${folder}training_log.jsonl" | give "lines $run" 65536
    fi
    file=${folder}checkpoint-$newest/training_config.json
    [[ ! -f $file ]] || give "trained $run" 65536 <"$file"
  done
else
  echo no | give absent 10
fi
"""
GATHER = f"ROOT={REMOTE_ROOT}\n{PRELUDE}{_BODY}{FINISH}"


@dataclass(frozen=True)
class AttemptReport:
    """One start of the training by the supervisor. Times are seconds since 1970, there."""

    started: float | None
    from_step: int | None
    reached_step: int | None
    exit_status: int | None


@dataclass(frozen=True)
class SupervisorReport:
    """What `.run/state.json` says."""

    state: str
    run: str
    pid: int | None = None
    boot_id: str = ""
    started: float | None = None
    ended: float | None = None
    config: str = ""
    deepspeed: str = ""
    log: str = ""
    log_offset: int = 0
    attempts: tuple[AttemptReport, ...] = ()
    restarts: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Lock:
    """A lock file: whether a process holds it (None: unknown) and what stands in it."""

    held: bool | None
    text: str


@dataclass(frozen=True)
class ConfigReport:
    """What a config says that a status needs."""

    source: str
    run: str = ""
    max_steps: int | None = None
    price_per_hour: float | None = None  # US dollars


@dataclass(frozen=True)
class RunReport:
    """A folder of models/."""

    name: str
    steps: tuple[int, ...] = ()  # of its complete checkpoints
    progress: Progress | None = None
    first: LogLine | None = None
    lines: tuple[LogLine, ...] = ()
    trained: ConfigReport | None = None  # of the newest checkpoint


@dataclass(frozen=True)
class LogEnd:
    """The end of a text log."""

    changed: float | None
    lines: tuple[str, ...]


@dataclass(frozen=True)
class MachineReport:
    """What a machine reports."""

    installed: bool = True  # the project's folder is there
    clock: float | None = None
    date: str = ""
    boot_id: str = ""
    pids: frozenset[int] = frozenset()
    supervisor: SupervisorReport | None = None
    supervisor_problem: str | None = None
    locks: Mapping[str, Lock] = field(default_factory=dict)
    runs: Mapping[str, RunReport] = field(default_factory=dict)
    configs: Mapping[str, ConfigReport] = field(default_factory=dict)
    logs: Mapping[str, LogEnd] = field(default_factory=dict)
    gpus: tuple[GpuSample, ...] = ()
    gpu_problem: str | None = None
    disk_free: int | None = None  # bytes
    disk_total: int | None = None

    @property
    def supervised(self) -> bool | None:
        """Whether the supervisor lives; None: unknown."""
        lock = self.locks.get(".run/lock")
        if lock is None:
            return False
        if lock.held is not None:
            return lock.held
        state = self.supervisor
        if state is None or state.pid is None or not self.pids:
            return None
        return state.pid in self.pids and state.boot_id == self.boot_id

    @property
    def trained(self) -> tuple[str, ...]:
        """The runs into whose folder a training writes at this moment."""
        paths = [PurePosixPath(path) for path, lock in self.locks.items() if lock.held]
        return tuple(path.parent.name for path in paths if path.name == ".training.lock")


def parse_report(answer: bytes) -> MachineReport:
    """The report of an answer to `GATHER`.

    Raises:
        CutOff: the answer is not complete.
    """
    found = answer_sections(answer)
    free, total = _disk(found.get("disk", b""))
    gpus = parse_gpus(found.get("gpus", b"").decode(errors="replace"))
    supervisor = _supervisor(found["state"]) if "state" in found else None
    return MachineReport(
        installed="absent" not in found,
        clock=_decimal(found.get("clock", b""), 1e9, YEAR_3000),
        date=_text(found, "date"),
        boot_id=_text(found, "boot"),
        pids=frozenset(int(part) for part in found.get("pids", b"").split() if part.isdigit() and len(part) < 12),
        supervisor=supervisor,
        supervisor_problem=".run/state.json cannot be read" if "state" in found and supervisor is None else None,
        locks={key: _lock(text) for key, text in _with(found, "lock ").items()},
        runs={name: _run(name, found) for name in _with(found, "steps ")},
        configs={n: s for n, text in _with(found, "config ").items() if (s := _settings(n, json_object(text)))},
        logs={
            name: LogEnd(_decimal(found.get(f"changed {name}", b""), 0, YEAR_3000), plain_lines(text, 8))
            for name, text in _with(found, "log ").items()
        },
        gpus=tuple(replace(gpu, name=plain(gpu.name, 40)) for gpu in gpus),
        gpu_problem=None if gpus else _gpu_problem(found),
        disk_free=free,
        disk_total=total,
    )


def _supervisor(text: bytes) -> SupervisorReport | None:
    value = json_object(text)
    if value is None or value.get("state") not in ("running", "complete", "failed", "stopped"):
        return None
    attempts = value.get("attempts") if isinstance(value.get("attempts"), list) else []
    return SupervisorReport(
        state=value["state"],
        run=PurePosixPath(plain(value.get("output_dir"))).name,
        pid=whole_number(value.get("pid"), 1),
        boot_id=plain(value.get("boot_id")),
        started=_iso(value.get("started")),
        ended=_iso(value.get("ended")),
        config=plain(value.get("config")),
        deepspeed=plain(value.get("deepspeed")),
        log=plain(value.get("log")),
        log_offset=whole_number(value.get("log_offset")) or 0,
        attempts=tuple(_attempt(item) for item in attempts[:100] if isinstance(item, dict)),
        restarts=whole_number(value.get("restarts"), 0, 10**6),
        reason=plain(value.get("reason"), 300),
    )


def _attempt(value: Mapping[str, Any]) -> AttemptReport:
    return AttemptReport(
        _iso(value.get("started")),
        whole_number(value.get("from_step")),
        whole_number(value.get("reached_step")),
        whole_number(value.get("exit_status"), -1000, 1000),
    )


def _run(name: str, found: Mapping[str, bytes]) -> RunReport:
    steps = found[f"steps {name}"].split()
    progress = parse_progress(json_object(found.get(f"progress {name}", b"")))
    if progress is not None:
        stopped = plain(progress.stopped, 300) or None
        progress = replace(progress, stopped=stopped, warnings=_texts(progress.warnings))
    trained = json_object(found.get(f"trained {name}", b"")) or {}
    return RunReport(
        name=name,
        steps=tuple(sorted({int(step) for step in steps if step.isdigit() and len(step) <= 12})),
        progress=progress,
        first=next(iter(parse_log(found.get(f"first {name}", b""))), None),
        lines=tuple(parse_log(found.get(f"lines {name}", b""))[-LINES:]),
        trained=_settings("the newest checkpoint", trained.get("config")),
    )


def _settings(source: str, value: Any) -> ConfigReport | None:
    if not isinstance(value, dict) or not isinstance(value.get("training"), dict):
        return None
    return ConfigReport(
        source,
        PurePosixPath(plain(value.get("output_dir"))).name,
        whole_number(value["training"].get("max_steps"), 1),
        finite(value.get("price_per_hour"), 0, 1e6),
    )


def _lock(text: bytes) -> Lock:
    status, _, words = text.decode(errors="replace").partition(" ")
    return Lock({"0": False, "75": True}.get(status), plain(words, 100))


def _gpu_problem(found: Mapping[str, bytes]) -> str:
    if "gpus" not in found:
        return "no nvidia-smi on this machine"
    said = plain_lines(found["gpus"], 1, 80)
    return f"nvidia-smi says: {said[0]}" if said else "nvidia-smi gave no answer within 15 s"


def _disk(text: bytes) -> tuple[int | None, int | None]:
    """Bytes free and in all from the last line of `df -P`; the file system's name may hold spaces."""
    parts = text.split()
    for at, part in enumerate(parts):
        if part.endswith(b"%") and at >= 3 and all(p.isdigit() and len(p) < 20 for p in parts[at - 3 : at]):
            return int(parts[at - 1]), int(parts[at - 3])
    return None, None


def _texts(values: Sequence[str]) -> tuple[str, ...]:
    """The first few texts of a list, for a terminal."""
    return tuple(text for value in values[:_TEXTS] if (text := plain(value, 300)))


def _with(found: Mapping[str, bytes], prefix: str) -> dict[str, bytes]:
    return {name.removeprefix(prefix): text for name, text in found.items() if name.startswith(prefix)}


def _text(found: Mapping[str, bytes], name: str) -> str:
    return plain(found.get(name, b"").decode(errors="replace"), 100)


def _decimal(text: bytes, low: float, high: float) -> float | None:
    try:
        return finite(float(text), low, high)
    except ValueError:
        return None


def _iso(value: Any) -> float | None:
    try:
        moment = datetime.fromisoformat(value)
        return finite((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(), 0, YEAR_3000)
    except (TypeError, ValueError, OverflowError):
        return None
