"""Process tree: all processes of a training, found by a mark, and ended.

Covers: whatever a supervisor starts carries its mark in the environment, so that it is found also when its parent or
the supervisor is dead (DeepSpeed's ranks outlive their launcher). Linux only.
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
_KILLED_WITHIN = 15.0  # seconds


def marked(mark: str) -> list[psutil.Process]:
    """The processes that run with this mark in their environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # it is gone, a zombie, or another user's
            if process.environ().get(MARK) == mark:
                found.append(process)
    return found


def end_marked(mark: str, grace: float) -> None:
    """Ask every process with a mark to end; kill what is left after ``grace`` seconds.

    Raises:
        SocratesError: some are there even then (stuck in the kernel, as with a broken GPU).
    """
    kill = (signal.SIGKILL, _KILLED_WITHIN)
    for number, seconds in ((signal.SIGTERM, grace), kill, kill):  # twice: one of them may start another meanwhile
        for process in marked(mark):
            with suppress(psutil.Error):
                process.send_signal(number)
        if wait_until(lambda: not marked(mark), seconds):
            return
    pids = ", ".join(str(process.pid) for process in marked(mark))
    raise SocratesError(f"processes of the training that cannot be ended, not even killed: {pids}")


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
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
