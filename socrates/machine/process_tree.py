"""Process tree: the processes of a training, asking its ranks to save, and ending all of them.

Covers: whatever a supervisor starts carries its mark in the environment, so that it is found also when its parent or
the supervisor is dead (DeepSpeed's ranks outlive their launcher). A clean stop is asked of the ranks: DeepSpeed's
`launch.py` would kill them after 30 s, and a step with its save may take longer. Linux only.
"""

from __future__ import annotations

import random
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

from socrates.errors import SocratesError

MARK = "SOCRATES_SUPERVISOR"
SAVE_PATIENCE = 600.0  # seconds for the end of a step and its checkpoint


def marked(mark: str) -> list[psutil.Process]:
    """The processes that run with this mark in their environment."""
    return [process for process in psutil.process_iter() if _environment(process).get(MARK) == mark]


def find_ranks(mark: str) -> list[psutil.Process]:
    """Those of them that DeepSpeed's launcher started as ranks; not the ranks' own workers."""
    ranks = {process.pid: process for process in marked(mark) if "LOCAL_RANK" in _environment(process)}
    return [process for process in ranks.values() if _parent_pid(process) not in ranks]


def ask_to_save(ranks: list[psutil.Process]) -> None:
    """SIGTERM to each: a training saves after the step it is in and ends; one that still loads ends at once."""
    for rank in ranks:
        with suppress(psutil.Error):
            rank.terminate()


def end_marked(mark: str, grace: float, patience: float = 30.0) -> None:
    """Ask every process with a mark to end; kill what is left.

    Args:
        mark: the mark.
        grace: seconds between SIGTERM and SIGKILL.
        patience: seconds to wait after SIGKILL.

    Raises:
        SocratesError: some are there even then (stuck in the kernel, as with a broken GPU).
    """
    number, pause, deadline = signal.SIGTERM, grace, time.monotonic() + grace + patience
    while left := marked(mark):
        if time.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in left)
            raise SocratesError(f"processes of the training that cannot be ended, not even killed: {pids}")
        for process in left:
            with suppress(psutil.Error):
                process.send_signal(number)
        wait_until(lambda: not marked(mark), pause)
        number, pause = signal.SIGKILL, 1.0


def wait_until(condition: Callable[[], bool], seconds: float = SAVE_PATIENCE) -> bool:
    """Whether something came true within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def free_port() -> int:
    """A port of this machine that nothing listens on.

    Until a training listens there some time goes by: it is none that Linux gives to an outgoing connection meanwhile
    (32768 and up), nor DeepSpeed's own (29500).
    """
    for port in random.sample(range(20000, 29500), 100):
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise SocratesError("no free port: none of 100 between 20000 and 29500 can be listened on")


def _environment(process: psutil.Process) -> dict[str, str]:
    """Empty for one that is gone, a zombie, or another user's."""
    with suppress(psutil.Error, OSError):
        return process.environ()
    return {}


def _parent_pid(process: psutil.Process) -> int | None:
    with suppress(psutil.Error):
        return process.ppid()
    return None
