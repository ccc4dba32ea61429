"""A laptop and a rented machine, both folders of this machine, with a real sshd between them.

Also the watcher: at every moment each folder named checkpoint-N on the laptop holds every byte that its manifest lists.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from socrates.checkpoint import GUIDE_FILES, checkpoint_step, find_damage, write_manifest

ROOT = Path(__file__).resolve().parents[2]
RUN = "socrates-qwen-test-run"
SPEED = 6000  # of the machine's rsync, in KB a second

# Python reads it first.
_REFUSALS = """
import errno, fcntl, os, stat
folder, flock, fsync = os.path.dirname(__file__), fcntl.flock, os.fsync
def refusing_flock(file, kind):
    if os.path.exists(folder + "/flock"):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    flock(file, kind)
def refusing_fsync(file):
    if os.path.exists(folder + "/fsync") and stat.S_ISDIR(os.fstat(file).st_mode):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    fsync(file)
fcntl.flock, os.fsync = refusing_flock, refusing_fsync
"""


@dataclass
class World:
    """One laptop and one machine."""

    folder: Path  # everything is in here
    disk_bytes: int | None = None  # of the laptop's models folder, then a small tmpfs
    violations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.laptop, self.machine = self.folder / "lap top", self.folder / "machine"
        self.models = self.laptop / "models"
        self.remote_models = self.machine / "home" / "socrates-training" / "models"
        for folder in (self.models, self.remote_models):
            folder.mkdir(parents=True)
        for name in ("scripts", "socrates"):
            (self.laptop / name).symlink_to(ROOT / name)
        self.can_fill_disk = self.disk_bytes is not None and self._mount()
        self._damaged: set[tuple[int, int]] = set()  # device and inode of folders that a fault has damaged itself
        self._whole: dict[Path, object] = {}  # how a folder looked when it was last read and found intact
        self._sshd_port: int | None = None
        self._slow_down()
        self.log = self.folder / "monitor.log"
        self._refusals = self.folder / "refusals"
        self._refusals.mkdir()
        (self._refusals / "sitecustomize.py").write_text(_REFUSALS)
        self.start_sshd()
        entry = json.loads((self.machine / "instance.json").read_text())
        (self.laptop / "instances.json").write_text(json.dumps({"0": entry, "1": {"folder": str(self.machine)}}))
        self._monitors: list[subprocess.Popen] = []
        self._watching = True
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def close(self) -> None:
        """Stop everything and remove the folder."""
        self._watching = False
        self._watcher.join()
        for monitor in self._monitors:
            self.kill(monitor)
        self.signal_sshd(signal.SIGKILL)
        if self.can_fill_disk:
            subprocess.run(["umount", "-l", self.models], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _mount(self) -> bool:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={self.disk_bytes}", "tmpfs", self.models], capture_output=True
        )
        return done.returncode == 0

    # The machine

    def _slow_down(self) -> None:
        """The machine's rsync sends slowly: a copy takes some tenths of a second, so that faults fall into it."""
        program = self.machine / "bin" / "rsync"
        program.parent.mkdir()
        program.write_text(
            f'#!/bin/bash\n[[ $1 == --server ]] || exec {shutil.which("rsync")} "$@"\n'
            f'exec {shutil.which("rsync")} "$1" --bwlimit={SPEED} "${{@:2}}"\n'
        )
        program.chmod(0o755)
        (self.machine / "environment").write_text(f"PATH={shlex.quote(str(program.parent))}:$PATH\n")

    def start_sshd(self) -> None:
        """Start the machine's sshd, on the port that it had before."""
        script = 'source "$1/tests/scripts/sshd.bash"; start_sshd "$2" $3 >/dev/null; echo "$SSHD_PID $SSHD_PORT"'
        port = str(self._sshd_port or "")
        done = subprocess.run(
            ["bash", "-c", script, "start", ROOT, self.machine, port], capture_output=True, text=True, check=True
        )
        self._sshd_pid, self._sshd_port = map(int, done.stdout.split()[-2:])

    def signal_sshd(self, number: int, *, listener: bool = True) -> None:
        """Send a signal to every process of the machine's sshd, or to those alone that serve a connection."""
        sshd = psutil.Process(self._sshd_pid)
        # A session that was stopped as it became the shell has another name now, and must go on, too.
        every = number == signal.SIGCONT
        sessions = [p for p in sshd.children(recursive=True) if every or p.name().startswith("sshd")]
        for process in [sshd] * listener + sessions:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def save(self, run: str, step: int, rng: random.Random, *, pause: float = 0.0) -> None:
        """Save a checkpoint on the machine as a training does: in place, file by file, the manifest last."""
        folder = self.remote(run, step)
        shard = f"global_step{step}/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"
        for name in (*GUIDE_FILES, "training_config.json", shard):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("wb", buffering=0) as file:
                for _ in range(3):
                    file.write(rng.randbytes(rng.randrange(1, 100_000)))
                    time.sleep(pause)
        write_manifest(folder, 2)

    def saved(self) -> list[tuple[str, int]]:
        """Run and step of every finished checkpoint on the machine."""
        folders = [path.parent for path in self.remote_models.glob("*/checkpoint-*/manifest.json")]
        return sorted((folder.parent.name, checkpoint_step(folder)) for folder in folders)

    def remote(self, run: str, step: int) -> Path:
        """The checkpoint's folder on the machine."""
        return self.remote_models / run / f"checkpoint-{step}"

    def local(self, run: str, step: int) -> Path:
        """The checkpoint's folder on the laptop."""
        return self.models / run / f"checkpoint-{step}"

    def reset(self) -> None:
        """Forget all checkpoints, on both sides."""
        for monitor in self._monitors:
            self.kill(monitor)
        self._monitors.clear()
        self._damaged.clear()
        self._whole.clear()
        self.refuse()
        for folder in (self.remote_models, self.models):
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    # The laptop

    def start_monitor(self, *arguments: str) -> subprocess.Popen:
        """Start the monitor as the guide does, once a second."""
        log = self.log.open("ab")
        monitor = subprocess.Popen(
            [self.laptop / "scripts" / "monitor_checkpoints.sh", "0", "1", *arguments],
            cwd=self.laptop,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**laptop_environment(), "PYTHONPATH": str(self._refusals)},
            start_new_session=True,
        )
        self._monitors.append(monitor)
        return monitor

    def said(self) -> list[str]:
        """The last lines of the monitors."""
        return self.log.read_text(errors="replace").splitlines()[-10:]

    def refuse(self, *calls: str) -> None:
        """What the laptop's disk answers to from now on as if it could not: "flock", a folder's "fsync"."""
        for call in ("flock", "fsync"):
            (self._refusals / call).touch() if call in calls else (self._refusals / call).unlink(missing_ok=True)

    def ask(self, *command: str) -> tuple[int, str]:
        """Run a script of the laptop to its end: its status and all that it says."""
        script = [self.laptop / "scripts" / command[0], *command[1:]]
        done = subprocess.run(
            script, cwd=self.laptop, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=laptop_environment()
        )
        return done.returncode, done.stdout + done.stderr

    def kill(self, process: subprocess.Popen) -> None:
        """kill -9 of one process alone; what it started is left to itself, as by a real kill."""
        process.kill()
        process.wait()

    def transfers(self) -> list[psutil.Process]:
        """The ssh and rsync processes that bring files here now."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or [""]
            if Path(words[0]).name in ("ssh", "rsync") and str(self._sshd_port) in " ".join(words):
                found.append(process)
        return found

    def damage(self, path: Path, rng: random.Random, *, truncate: bool) -> None:
        """Truncate a file or flip one of its bits.

        A finished checkpoint of the laptop that is damaged so counts as damaged on purpose; a folder that is being
        filled does not: it must never become a checkpoint.
        """
        with suppress(OSError):
            for folder in path.parents:
                if folder.parent.parent == self.models and folder.name.startswith("checkpoint-"):
                    self._damaged.add(_identity(folder))
            data = bytearray(path.read_bytes())
            if truncate or not data:
                del data[len(data) // 2 :]
            else:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            path.write_bytes(data)

    def wait_until_all_is_here(self, seconds: float) -> float | None:
        """Seconds until every checkpoint of the machine is on the laptop, intact; None if that takes too long."""
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            if not self.missing():
                return time.monotonic() - start
            time.sleep(0.05)
        return None

    def missing(self) -> list[str]:
        """What is not here, and why."""
        found = {key: self._wrong(*key) for key in self.saved()}
        return [f"{run}/checkpoint-{step}: {why}" for (run, step), why in found.items() if why]

    def _wrong(self, run: str, step: int) -> str | None:
        here, there = (folder(run, step) / "manifest.json" for folder in (self.local, self.remote))
        if not here.is_file() or here.read_bytes() != there.read_bytes():
            return "not here"
        return find_damage(here.parent)

    def _watch(self) -> None:
        while self._watching:
            folders = []
            with suppress(OSError):  # removed between two rounds
                folders = list(self.models.glob("*/checkpoint-*"))
            for folder in folders:
                self._check(folder)
            time.sleep(0.01)

    def _check(self, folder: Path) -> None:
        try:
            identity = _identity(folder)
        except OSError:
            return
        seen = _signature(folder)
        if identity in self._damaged or (seen is not None and self._whole.get(folder) == seen):
            return
        why = find_damage(folder)
        if why is None:
            self._whole[folder] = seen
        elif identity not in self._damaged:
            with suppress(OSError):  # moved away while we looked
                if _identity(folder) == identity:
                    self.violations.append(f"{folder}: {why}")


def laptop_environment() -> dict[str, str]:
    """An environment with no more than a terminal has."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV") if name in os.environ}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}


def _signature(folder: Path) -> object:
    """Changes with every write below a folder; None while it cannot be read."""
    try:
        return tuple(
            (str(path), status.st_ino, status.st_size, status.st_mtime_ns)
            for path in sorted(folder.rglob("*"))
            for status in (path.stat(),)
        )
    except OSError:
        return None


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
