"""The ranks of a training among other processes, and asking them for a clean stop.

The ranks are signalled, not DeepSpeed's launcher: `launch.py` would kill them after 30 s, and a step with its save may
take longer. Covers: data loader workers and other children of a rank are not taken for ranks. Linux only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import psutil

SAVE_PATIENCE = 600.0  # seconds for the end of a step and its checkpoint
_WORD_EVERY = 30.0  # seconds


def find_ranks(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those of some processes that DeepSpeed's launcher started as ranks."""
    return [process for process in processes if _is_rank(process)]


def ask_ranks(ranks: Iterable[psutil.Process]) -> None:
    """SIGTERM to each: a training saves after the step it is in and ends; one that still loads ends at once."""
    for rank in ranks:
        with suppress(psutil.Error):
            rank.terminate()


def wait_for_save(
    over: Callable[[], bool], say: Callable[[str], None], patience: float = SAVE_PATIENCE, pause: float = 0.2
) -> bool:
    """Whether ``over`` came true in time; says every half minute that it is waited for."""
    begun = told = time.monotonic()
    while not over():
        now = time.monotonic()
        if now - begun > patience:
            return False
        if now - told >= _WORD_EVERY:
            told = now
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
