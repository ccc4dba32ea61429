"""What this computer knows about an instance: how it is reached, which checkpoints are here, whether a monitor runs.

Covers: checkpoints by manifest and sizes, which is known at once. Does not cover: their SHA-256 (the monitor and
`verify_checkpoint.py` read every byte).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from socrates.checkpoint import checkpoint_step, list_checkpoints, read_manifest
from socrates.errors import SocratesError
from socrates.files import lock_is_held
from socrates.phases import PhaseRecord, phase_records
from socrates.remote.untrusted import json_object, plain, whole

RECORDS = Path("models/.monitor")
_LARGEST_RECORD = 10 * 2**20  # bytes


@dataclass(frozen=True)
class MonitorRecord:
    """What the monitor of an instance has written down. Times are seconds since 1970, here.

    Attributes:
        running: whether it runs now; None: that cannot be told.
        found: whether there is a record at all.
        downloaded: run and step of each checkpoint that it downloaded.
        unsolved: problems that last, in its words.
    """

    running: bool | None = False
    found: bool = False
    pid: int | None = None
    started: float | None = None
    last_round: float | None = None
    rounds: int | None = None
    downloaded: frozenset[tuple[str, int]] = frozenset()
    unsolved: tuple[str, ...] = ()


@dataclass(frozen=True)
class Here:
    """All that is known on this computer.

    Attributes:
        checkpoints: run -> step -> what is wrong with it; None where manifest and sizes are right.
    """

    instance: str
    reached_by: str
    checkpoints: Mapping[str, Mapping[int, str | None]] = field(default_factory=dict)
    monitor: MonitorRecord = MonitorRecord()
    phases: tuple[PhaseRecord, ...] = ()


def look_here(root: Path, instance: str) -> Here:
    """Gather it; ``root`` is the project's folder."""
    return Here(
        instance,
        reached_by(root, instance),
        {folder.name: checked for folder in sorted((root / "models").glob("*")) if (checked := sizes_here(folder))},
        read_monitor(root, instance),
        tuple(phase_records(root)),
    )


def sizes_here(run_folder: Path) -> dict[int, str | None]:
    """Each checkpoint of a run here: what is wrong with its manifest or its files' sizes, or None."""
    return {checkpoint_step(folder) or 0: _wrong_size(folder) for folder in list_checkpoints(run_folder)}


def read_monitor(root: Path, instance: str) -> MonitorRecord:
    """The record of an instance's monitor; an unreadable one is none."""
    path = root / RECORDS / f"instance-{instance}.json"
    running = lock_is_held(path.with_suffix(".lock"))
    try:
        value = json_object(path.read_bytes()) if path.stat().st_size < _LARGEST_RECORD else None
    except OSError:
        value = None
    if value is None:
        return MonitorRecord(running)
    problems = [item for item in _list(value, "problems") if isinstance(item, dict) and item.get("solved") is not True]
    return MonitorRecord(
        running,
        True,
        whole(value.get("pid"), 1),
        _moment(value.get("started")),
        _moment(value.get("last_round")),
        whole(value.get("rounds")),
        frozenset(_downloads(value)),
        tuple(plain(item.get("what"), 200) or "a problem without words" for item in problems),
    )


def reached_by(root: Path, instance: str) -> str:
    """How an instance is reached, in words; see scripts/tnr."""
    try:
        entry = (json_object((root / "instances.json").read_bytes()) or {}).get(instance)
    except OSError:
        entry = None
    if isinstance(entry, dict) and os.environ.get("SOCRATES_BACKEND") != "thunder":
        if entry.get("folder"):
            return f"folder {plain(entry['folder'], 60)}"
        if entry.get("host"):
            port = whole(entry.get("port"))
            return f"ssh {plain(entry['host'], 60)}" + (f" port {port}" if port not in (None, 22) else "")
    return "Thunder Compute"


def _wrong_size(folder: Path) -> str | None:
    try:
        manifest = read_manifest(folder)
    except SocratesError:
        return "has no manifest that can be read"
    for name, (size, _) in manifest.files.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has another size"
    return None


def _downloads(value: Mapping[str, Any]) -> list[tuple[str, int]]:
    entries = [entry for entry in _list(value, "downloaded") if isinstance(entry, list) and len(entry) >= 2]
    return [(entry[0], entry[1]) for entry in entries if isinstance(entry[0], str) and whole(entry[1]) is not None]


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    return value[key] if isinstance(value.get(key), list) else []


def _moment(value: Any) -> float | None:
    """A time that the monitor wrote (ISO, local where no zone is given)."""
    try:
        return datetime.fromisoformat(value).timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return None
