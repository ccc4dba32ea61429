"""Lock files: taken, or held by another process.

Covers: the kernel frees a lock however its holder ends. Does not cover: what the lock file says, which is the taker's.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import IO

_PATIENCE = 1.0  # seconds for who has the lock: it may be about to end
_PATIENCE_WITH_LOOKERS = 60.0  # status and launch share it for a moment, which is longer on a busy machine


def try_lock(file: int | IO[str]) -> bool:
    """Take a lock file for ourselves; False if another process has it, and not only looks whether it is free."""
    begun = time.monotonic()
    while not _lock(file, fcntl.LOCK_EX):
        looked_at = _lock(file, fcntl.LOCK_SH)
        if looked_at:
            fcntl.flock(file, fcntl.LOCK_UN)
        if time.monotonic() - begun > (_PATIENCE_WITH_LOOKERS if looked_at else _PATIENCE):
            return False
        time.sleep(0.05)
    return True


def _lock(file: int | IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def lock_is_held(path: Path) -> bool | None:
    """Whether a process holds a lock file; None: that cannot be told."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False
