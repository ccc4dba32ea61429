"""Work that goes on in a process of its own when the caller, its terminal and its connection are gone.

Covers: a session of its own, no terminal, SIGHUP ignored, none of the caller's open files (a pipe kept open would make
ssh wait). Does not cover: what ends all processes of a user at logout (some systemd settings).
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import IO

from socrates.errors import SocratesError

Answer = Callable[[str], None]


def run_detached(work: Callable[[Answer], None], output: IO[bytes], keep: int) -> str:
    """Begin ``work`` in a detached process, and wait for its answer only.

    Args:
        work: gets a function, to be called once, with what the caller is to be told.
        output: gets standard output and standard error.
        keep: an open file to keep (a lock).

    Returns:
        The answer; of a SocratesError before it, the message; empty if it ended without.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _detach(work, output, keep, writer)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as answer:  # its end: the process has closed it, or is gone
        text = answer.read()
    os.waitpid(child, 0)
    return text


def _detach(work: Callable[[Answer], None], output: IO[bytes], keep: int, writer: int) -> None:
    """In the forked process; never returns."""

    def answer(text: str) -> None:
        os.write(writer, text.encode())
        os.close(writer)

    status = 1
    try:
        os.setsid()
        if os.fork() != 0:  # the one that remains leads no session, so that it never gets a terminal
            os._exit(0)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="replace", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="replace", closefd=False)
        _close_all_but(keep, writer)
        work(answer)
        status = 0
    except BaseException as error:
        with suppress(OSError):
            if isinstance(error, SocratesError):
                answer(str(error))
            else:
                traceback.print_exc()
    os._exit(status)


def _close_all_but(*kept: int) -> None:
    for descriptor in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208
        if descriptor > 2 and descriptor not in kept:
            with suppress(OSError):  # that of the listing itself
                os.close(descriptor)
