"""Process tree: the processes of a training, asking its ranks to save, and ending all of them.

Covers: whatever a supervisor starts carries its mark in the environment, so that it is found also when its parent or
the supervisor is dead (DeepSpeed's ranks outlive their launcher). A clean stop is asked of the ranks: DeepSpeed's
`launch.py` would kill them after 30 s, and a step with its save may take longer. A rank's data loader workers are not
taken for ranks. Linux only.
"""

from __future__ import annotations

import random
import signal
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import psutil

from socrates.errors import SocratesError

MARK = "SOCRATES_SUPERVISOR"
SAVE_PATIENCE = 600.0  # seconds for the end of a step and its checkpoint
_WORD_EVERY = 30.0  # seconds


def marked(mark: str) -> list[psutil.Process]:
    """The processes that run with this mark in their environment."""
    return [process for process in psutil.process_iter() if _environment(process).get(MARK) == mark]


def find_ranks(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those of some processes that DeepSpeed's launcher started as ranks."""
    return [p for p in processes if "LOCAL_RANK" in _environment(p) and "LOCAL_RANK" not in _environment(_parent(p))]


def ask_to_save(ranks: Iterable[psutil.Process]) -> None:
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
    signalled: set[tuple[int, int]] = set()
    begun = time.monotonic()
    while left := marked(mark):
        waited = time.monotonic() - begun
        if waited > grace + patience:
            pids = ", ".join(str(process.pid) for process in left)
            raise SocratesError(f"processes of the training that cannot be ended, not even killed: {pids}")
        number = signal.SIGTERM if waited < grace else signal.SIGKILL
        for process in left:
            if (process.pid, number) not in signalled:
                signalled.add((process.pid, number))
                with suppress(psutil.Error):
                    process.send_signal(number)
        time.sleep(0.1)


def wait_until(
    condition: Callable[[], bool], seconds: float = SAVE_PATIENCE, say: Callable[[str], None] | None = None
) -> bool:
    """Whether something came true within so many seconds.

    Args:
        condition: what is waited for.
        seconds: how long.
        say: is told every half minute that a step and its checkpoint are waited for.
    """
    begun = reported = time.monotonic()
    while not condition():
        now = time.monotonic()
        if now - begun > seconds:
            return False
        if say and now - reported >= _WORD_EVERY:
            reported = now
            say(f"still waiting for the step and its checkpoint, {now - begun:.0f} s so far")
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


def _environment(process: psutil.Process | None) -> dict[str, str]:
    """Empty for one that is gone, a zombie, or another user's."""
    with suppress(psutil.Error, OSError):
        return process.environ() if process else {}
    return {}


def _parent(process: psutil.Process) -> psutil.Process | None:
    with suppress(psutil.Error):
        return process.parent()
    return None
