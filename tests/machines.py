"""A training machine's folder as the supervisor and the training leave it, for the tests of status and verification."""

from __future__ import annotations

import contextlib
import copy
import fcntl
import json
import os
import shutil
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from processes import ROOT

from socrates.checkpoint import GUIDE_FILES, write_manifest
from socrates.machine.status import machine_report
from socrates.remote.local import MonitorRecord
from socrates.remote.machine_report import read_report
from socrates.remote.status import Status, add_report, screen

FULL, TEST = "socrates-qwen-full-dataset", "socrates-qwen-test-run"


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


HERE = Status("0", 0.0, MonitorRecord())


def status_of(folder: Path, here: Status = HERE, now: float | None = None):
    """The status of a training machine's project folder; ``now``: by our clock."""
    with contextlib.chdir(folder):
        answer = json.dumps(asdict(machine_report()), allow_nan=False).encode()
    here = replace(here, time=time.time() if now is None else now)
    return add_report(here, read_report(answer, here.instance))


def text_of(status, width: int = 100) -> str:
    """Its screen."""
    return screen(status, width)


class Machine:
    """A project's folder on the laptop with a local instance "0"; what is written stands on the instance."""

    def __init__(self, root: Path) -> None:
        self._stand_in(root)
        self.there.mkdir(parents=True)
        for name in ("scripts", "socrates"):
            (root / name).symlink_to(ROOT / name)
            (self.there / name).symlink_to(ROOT / name)
        (self.there / "venv").symlink_to(Path(sys.executable).parent.parent)
        for config in ROOT.glob("config_*.json"):
            (root / config.name).write_text(config.read_text())
        (root / "instances.json").write_text('{"0": {"folder": "instances/0"}}')
        self.now = time.time()

    def _stand_in(self, root: Path) -> None:
        self.root = root
        self.home = root / "instances" / "0" / "home"
        self.there = self.home / "socrates-training"
        self.locks = ExitStack()
        self.id = "0"

    def copy_to(self, root: Path) -> Machine:
        """The same machine in another folder."""
        shutil.copytree(self.root, root, symlinks=True)
        twin = copy.copy(self)
        twin._stand_in(root)
        return twin

    def write(self, path: str, content: object) -> Path:
        file = self.there / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            file.write_text(content if isinstance(content, str) else json.dumps(content))
        return file

    def state(self, state: str = "running", *, begun: float, run: str = FULL, **changes: object) -> None:
        """``begun``: seconds ago."""
        start = iso(self.now - begun)
        value = {
            "state": state,
            "pid": os.getpid(),
            "started": start,
            "config": "config_full_dataset.json" if run == FULL else "config_test_run.json",
            "deepspeed": "deepspeed_config.json",
            "log": "training.log" if run == FULL else "training_test.log",
            "log_offset": 0,
            "output_dir": f"models/{run}",
            "attempts": [{"started": start, "from_step": 0}],
        }
        self.write(".run/state.json", value | changes)

    def progress(
        self,
        step: int,
        *,
        ago: float = 5,
        pace: float = 10,
        of: int = 11300,
        run: str = FULL,
        told: dict[str, object] | None = None,
        logged: dict[str, object] | None = None,
    ) -> None:
        """Step ``step`` was done ``ago`` seconds ago; a line every ten steps.

        ``told`` is added to the progress, ``logged`` to each line of the log.
        """
        end = self.now - ago
        begun = end - pace * step
        value = {"step": step, "max_steps": of, "time": end, "started": begun, "started_step": 0}
        value["account"] = {"run": run, "attempts": 1, "seconds": end - begun, "usd": 7.2 * (end - begun) / 3600}
        self.write(f"models/{run}/.progress.json", value | (told or {}))
        lines = [
            {"time": begun + pace * at, "step": at, "loss": 2.5 - at / of, "tokens_per_second": 8000.0}
            | {"elapsed_s": pace * at, "gpu": [], **(logged or {})}
            for at in range(10, step + 1, 10)
        ]
        log = self.there / "models" / run / "training_log.jsonl"
        with log.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def checkpoint(self, step: int, *, run: str = FULL, root: Path | None = None, **files: bytes) -> Path:
        folder = (root or self.there) / "models" / run / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        for name in GUIDE_FILES:
            (folder / name).write_bytes(files.get(name.partition(".")[0], name.encode()))
        write_manifest(folder, 2)
        return folder

    def hold(self, path: str) -> None:
        """Hold a lock, as a living supervisor or training does."""
        self.write(path, "process 4711 since now\n")
        self.hold_file(self.there / path)

    def hold_file(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = self.locks.enter_context(path.open("a"))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
