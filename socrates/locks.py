"""Lock files: taken, or held by another process.

Covers: the kernel frees a lock however its holder ends. Does not cover: what the lock file says, which is the taker's.
"""

from __future__ import annotations

import fcntl
import time
from typing import IO

_PATIENCE = 1.0  # seconds: status and launch hold a lock for a moment too, to see whether it is free


def try_lock(file: int | IO[str]) -> bool:
    """Take a lock file for ourselves; False if another process keeps it for more than a moment."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
