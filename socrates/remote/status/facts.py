"""What a training machine tells about itself, read with distrust.

Covers: what is missing, half written, hostile or of a wrong type becomes None. Does not cover: how it is gathered
(`command.py`), and what it means (`summary.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from socrates.remote.untrusted import json_object, json_objects, number, plain, plain_lines, sections, whole

LINES = 50  # of a training log
_TEXTS = 4  # of a list of warnings
_YEAR_3000 = 32503680000.0  # seconds since 1970


@dataclass(frozen=True)
class Attempt:
    """One start of the training by the supervisor. Times are seconds since 1970, there."""

    started: float | None
    from_step: int | None
    reached_step: int | None
    exit_status: int | None


@dataclass(frozen=True)
class Supervisor:
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
    attempts: tuple[Attempt, ...] = ()
    restarts: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Lock:
    """A lock file: whether a process holds it (None: that cannot be told) and what stands in it."""

    held: bool | None
    text: str


@dataclass(frozen=True)
class Progress:
    """What `.progress.json` says. Times are seconds since 1970, there."""

    step: int
    max_steps: int | None
    time: float | None
    started: float | None
    started_step: int | None
    stopped: str = ""  # why it ended cleanly before its last step
    warnings: tuple[str, ...] = ()  # what looks wrong to the training itself


@dataclass(frozen=True)
class LogLine:
    """A line of `training_log.jsonl`; what is missing or no number is None."""

    time: float | None = None
    step: int | None = None
    max_steps: int | None = None
    loss: float | None = None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    elapsed_s: float | None = None
    padding_share: float | None = None
    mfu: float | None = None  # model FLOPs utilisation, a share
    eval_loss: float | None = None
    cost_usd: float | None = None  # of all attempts, on any machine, idle time not counted
    gpus: tuple[tuple[int, float | None], ...] = ()  # (index, mean utilization in percent)


@dataclass(frozen=True)
class Settings:
    """What a config says that a status needs."""

    source: str
    run: str = ""
    max_steps: int | None = None
    price_per_hour: float | None = None  # US dollars


@dataclass(frozen=True)
class RunThere:
    """A folder of models/."""

    name: str
    steps: tuple[int, ...] = ()  # of its complete checkpoints
    progress: Progress | None = None
    first: LogLine | None = None
    lines: tuple[LogLine, ...] = ()
    trained: Settings | None = None  # of the newest checkpoint


@dataclass(frozen=True)
class GpuNow:
    """One GPU at the moment of asking; None where the driver does not tell."""

    index: int
    utilization: float | None  # percent
    memory_mib: float | None
    memory_total_mib: float | None
    name: str


@dataclass(frozen=True)
class LogEnd:
    """The end of a text log."""

    changed: float | None
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """All that a machine told."""

    installed: bool = True  # the project's folder is there
    clock: float | None = None
    date: str = ""
    boot_id: str = ""
    pids: frozenset[int] = frozenset()
    supervisor: Supervisor | None = None
    supervisor_problem: str | None = None
    locks: Mapping[str, Lock] = field(default_factory=dict)
    runs: Mapping[str, RunThere] = field(default_factory=dict)
    configs: Mapping[str, Settings] = field(default_factory=dict)
    logs: Mapping[str, LogEnd] = field(default_factory=dict)
    gpus: tuple[GpuNow, ...] = ()
    gpu_problem: str | None = None
    disk_free: int | None = None  # bytes
    disk_total: int | None = None

    @property
    def supervised(self) -> bool | None:
        """Whether the supervisor lives; None: that cannot be told."""
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


def parse(answer: bytes) -> Facts:
    """The facts of an answer to `command.GATHER`.

    Raises:
        CutOff: the answer has not come whole.
    """
    found = sections(answer)
    free, total = _disk(found.get("disk", b""))
    gpus = _gpus(found.get("gpus", b""))
    supervisor = _supervisor(found["state"]) if "state" in found else None
    return Facts(
        installed="absent" not in found,
        clock=_decimal(found.get("clock", b""), 1e9, _YEAR_3000),
        date=_text(found, "date"),
        boot_id=_text(found, "boot"),
        pids=frozenset(int(part) for part in found.get("pids", b"").split() if part.isdigit() and len(part) < 12),
        supervisor=supervisor,
        supervisor_problem=".run/state.json cannot be read" if "state" in found and supervisor is None else None,
        locks={key: _lock(text) for key, text in _with(found, "lock ").items()},
        runs={name: _run(name, found) for name in _with(found, "steps ")},
        configs={n: s for n, text in _with(found, "config ").items() if (s := _settings(n, json_object(text)))},
        logs={
            name: LogEnd(_decimal(found.get(f"changed {name}", b""), 0, _YEAR_3000), plain_lines(text, 8))
            for name, text in _with(found, "log ").items()
        },
        gpus=gpus,
        gpu_problem=None if gpus else _gpu_problem(found),
        disk_free=free,
        disk_total=total,
    )


def log_line(value: Mapping[str, Any]) -> LogLine:
    """A line of the training log from its JSON."""
    samples = value.get("gpu") if isinstance(value.get("gpu"), list) else []
    return LogLine(
        time=number(value.get("time"), 0, _YEAR_3000),
        step=whole(value.get("step")),
        max_steps=whole(value.get("max_steps"), 1),
        loss=number(value.get("loss"), -1e9, 1e9),
        learning_rate=number(value.get("learning_rate"), 0, 1e3),
        tokens_per_second=number(value.get("tokens_per_second")),
        elapsed_s=number(value.get("elapsed_s"), 0, 1e10),
        padding_share=number(value.get("padding_share"), 0, 1),
        mfu=number(value.get("mfu"), 0, 10),
        eval_loss=number(value.get("eval_loss"), -1e9, 1e9),
        cost_usd=number(value.get("cost_usd"), 0, 1e9),
        gpus=tuple(
            (index, number(gpu.get("utilization"), 0, 100))
            for gpu in samples
            if isinstance(gpu, dict) and (index := whole(gpu.get("index"), 0, 1023)) is not None
        ),
    )


def _supervisor(text: bytes) -> Supervisor | None:
    value = json_object(text)
    if value is None or value.get("state") not in ("running", "complete", "failed", "stopped"):
        return None
    attempts = value.get("attempts") if isinstance(value.get("attempts"), list) else []
    return Supervisor(
        state=value["state"],
        run=PurePosixPath(plain(value.get("output_dir"))).name,
        pid=whole(value.get("pid"), 1),
        boot_id=plain(value.get("boot_id")),
        started=_iso(value.get("started")),
        ended=_iso(value.get("ended")),
        config=plain(value.get("config")),
        deepspeed=plain(value.get("deepspeed")),
        log=plain(value.get("log")),
        log_offset=whole(value.get("log_offset")) or 0,
        attempts=tuple(_attempt(item) for item in attempts[:100] if isinstance(item, dict)),
        restarts=whole(value.get("restarts"), 0, 10**6),
        reason=plain(value.get("reason"), 300),
    )


def _attempt(value: Mapping[str, Any]) -> Attempt:
    return Attempt(
        _iso(value.get("started")),
        whole(value.get("from_step")),
        whole(value.get("reached_step")),
        whole(value.get("exit_status"), -1000, 1000),
    )


def _run(name: str, found: Mapping[str, bytes]) -> RunThere:
    steps = found[f"steps {name}"].split()
    progress = json_object(found.get(f"progress {name}", b"")) or {}
    step = whole(progress.get("step"))
    first = json_objects(found.get(f"first {name}", b""))
    lines = json_objects(found.get(f"lines {name}", b""))[-LINES:]
    trained = json_object(found.get(f"trained {name}", b"")) or {}
    return RunThere(
        name=name,
        steps=tuple(sorted({int(step) for step in steps if step.isdigit() and len(step) <= 12})),
        progress=None if step is None else Progress(
            step,
            whole(progress.get("max_steps"), 1),
            number(progress.get("time"), 0, _YEAR_3000),
            number(progress.get("started"), 0, _YEAR_3000),
            whole(progress.get("started_step")),
            plain(progress.get("stopped"), 300),
            _texts(progress.get("warnings")),
        ),
        first=log_line(first[0]) if first else None,
        lines=tuple(log_line(line) for line in lines),
        trained=_settings("the newest checkpoint", trained.get("config")),
    )  # fmt: skip


def _settings(source: str, value: Any) -> Settings | None:
    if not isinstance(value, dict) or not isinstance(value.get("training"), dict):
        return None
    return Settings(
        source,
        PurePosixPath(plain(value.get("output_dir"))).name,
        whole(value["training"].get("max_steps"), 1),
        number(value.get("price_per_hour"), 0, 1e6),
    )


def _lock(text: bytes) -> Lock:
    status, _, words = text.decode(errors="replace").partition(" ")
    return Lock({"0": False, "75": True}.get(status), plain(words, 100))


def _gpus(text: bytes) -> tuple[GpuNow, ...]:
    found = []
    for line in text.decode(errors="replace").splitlines():
        index, *values = (part.strip() for part in line.split(",", 4))
        if len(values) == 4 and index.isdecimal() and len(index) < 5:
            use, memory, total = (_decimal(value.encode(), 0, 1e9) for value in values[:3])
            found.append(GpuNow(int(index), use, memory, total, plain(values[3], 40)))
    return tuple(found)


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


def _texts(value: Any) -> tuple[str, ...]:
    """The first few texts of a list."""
    texts = (plain(item, 300) for item in value[:_TEXTS]) if isinstance(value, list) else ()
    return tuple(text for text in texts if text)


def _with(found: Mapping[str, bytes], prefix: str) -> dict[str, bytes]:
    return {name.removeprefix(prefix): text for name, text in found.items() if name.startswith(prefix)}


def _text(found: Mapping[str, bytes], name: str) -> str:
    return plain(found.get(name, b"").decode(errors="replace"), 100)


def _decimal(text: bytes, low: float, high: float) -> float | None:
    try:
        return number(float(text), low, high)
    except ValueError:
        return None


def _iso(value: Any) -> float | None:
    try:
        moment = datetime.fromisoformat(value)
        return number((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(), 0, _YEAR_3000)
    except (TypeError, ValueError, OverflowError):
        return None
