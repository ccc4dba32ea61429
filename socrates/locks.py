"""Lock files: taken, or held by another process.

Covers: the kernel frees a lock however its holder ends. Does not cover: what the lock file says, which is the taker's.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
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
