"""Process tree: which process is meant (pids are reused), whether it lives, ending all below us; the ranks of a run.

Covers: a number that was given to another process since, a machine that was restarted, children whose parent died
(DeepSpeed's ranks outlive their launcher). A clean stop is asked of the ranks, not of DeepSpeed's `launch.py`, which
would kill them after 30 s, and a step with its save may take longer; a rank's data loader workers are not taken for
ranks. Linux only.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import random
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from socrates.errors import SocratesError

_SET_CHILD_SUBREAPER = 36  # of prctl(2)


@dataclass(frozen=True)
class ProcessId:
    """One process, and no other that gets its number later."""

    pid: int
    start_ticks: int  # since the machine was started, as in /proc/PID/stat
    boot_id: str

    def is_alive(self) -> bool:
        """Whether it still runs on this machine."""
        return self.boot_id == boot_id() and self.start_ticks == start_ticks(self.pid)


def own_id() -> ProcessId:
    """This process."""
    return ProcessId(os.getpid(), start_ticks(os.getpid()) or 0, boot_id())


def boot_id() -> str:
    """A text that is another one after each start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_ticks(pid: int) -> int | None:
    """When a process was started, or None if there is no such process (any more)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def started_at(pid: int) -> str | None:
    """The same as a time of day (ISO, UTC)."""
    try:
        return datetime.fromtimestamp(psutil.Process(pid).create_time(), UTC).isoformat(timespec="seconds")
    except psutil.Error:
        return None


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent dies, so that none escapes."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise SocratesError(f"cannot keep hold of the training's processes: {os.strerror(ctypes.get_errno())}")


def descendants() -> list[psutil.Process]:
    """All processes that descend from this one and still run."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                found.append(process)
    return found


def end_descendants(grace: float, patience: float = 30.0) -> list[int]:
    """Ask every descendant to end; kill what is left.

    Args:
        grace: seconds between SIGTERM and SIGKILL.
        patience: seconds to wait after SIGKILL.

    Returns:
        Those that are there even then (stuck in the kernel, as with a broken GPU).
    """
    signalled: set[int] = set()
    started = time.monotonic()
    while left := descendants():
        waited = time.monotonic() - started
        if waited > grace + patience:
            break
        for process in left:
            with suppress(psutil.Error):
                if waited >= grace:
                    process.kill()
                elif process.pid not in signalled:
                    signalled.add(process.pid)
                    process.terminate()
        time.sleep(0.05)
    return [process.pid for process in left]


def reap_adopted() -> None:
    """Take the exit statuses of dead children that nobody waits for; only when all others have been waited for."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def in_group(group: int) -> list[psutil.Process]:
    """The processes of a process group that still run."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def group_lives(group: int) -> bool:
    """Whether any process of a process group still runs."""
    return bool(in_group(group))


def wait_until(condition: Callable[[], bool], seconds: float, pause: float = 0.1) -> bool:
    """Whether something came true within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def lock_holder(path: Path) -> str | None:
    """What the holder of a lock wrote into it; None if nobody holds it.

    It is tried with a shared lock, so that two who ask at once do not take each other for the holder.
    """
    try:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read(1000).decode(errors="replace").strip() or "process unknown"
    except OSError:
        pass
    return None


def free_port() -> int:
    """A port of this machine that nothing listens on.

    Until a training listens there some time goes by: it is none that Linux gives to an outgoing connection meanwhile
    (32768 and up), nor DeepSpeed's own (29500).
    """
    for port in random.sample(range(20000, 29500), 100):
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
                return port
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
    raise SocratesError("no free port: of 100 between 20000 and 29500 something listens on each")


SAVE_PATIENCE = 600.0  # seconds for the end of a step and its checkpoint
_WORD_EVERY = 30.0  # seconds


def find_ranks(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those of some processes that DeepSpeed's launcher started as ranks."""
    return [process for process in processes if _is_rank(process)]


def signal_ranks(ranks: Iterable[psutil.Process]) -> None:
    """SIGTERM to each: a training saves after the step it is in and ends; one that still loads ends at once."""
    for rank in ranks:
        with suppress(psutil.Error):
            rank.terminate()


def wait_for_save(
    over: Callable[[], bool], say: Callable[[str], None], patience: float = SAVE_PATIENCE, pause: float = 0.2
) -> bool:
    """Whether ``over`` came true in time; says every half minute that it is waited for."""
    begun = reported = time.monotonic()
    while not over():
        now = time.monotonic()
        if now - begun > patience:
            return False
        if now - reported >= _WORD_EVERY:
            reported = now
            say(f"still waiting for the step and its checkpoint, {now - begun:.0f} s so far")
        time.sleep(pause)
    return True


def _is_rank(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        if "LOCAL_RANK" in process.environ():
            parent = process.parent()
            return parent is None or not _has_rank(parent)
    return False


def _has_rank(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "LOCAL_RANK" in process.environ()
    return False
