"""Single keys from a terminal, without the return key."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def single_keys() -> Iterator[Callable[[float], bool]]:
    """Single keys from the terminal, where standard input is one; yields "wait so long, was q pressed?"."""
    terminal = sys.stdin.fileno() if sys.stdin and sys.stdin.isatty() else None

    def pressed_q(seconds: float) -> bool:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if terminal is None:
                time.sleep(left)
            elif select.select([terminal], [], [], left)[0] and os.read(terminal, 1) in (b"q", b"Q", b""):
                return True
        return False

    if terminal is None:
        yield pressed_q
        return
    import termios
    import tty

    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield pressed_q
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
