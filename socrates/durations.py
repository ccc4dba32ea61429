"""Time spans and exit statuses in words."""

from __future__ import annotations

import signal


def duration(seconds: float) -> str:
    """A time span in words: "40 s", "12 min", "5 h 07 min", "2 d 3 h"."""
    if seconds < 100:
        return f"{max(seconds, 0):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 100 else f"{hours // 24} d {hours % 24} h"


def describe_exit(status: int) -> str:
    """An exit status in words. DeepSpeed's launcher passes "killed by signal 9" on as 256 - 9."""
    if status == 0:
        return "it ended without an error but without its last checkpoint (was its launcher killed?)"
    number = -status if status < 0 else 256 - status if status > 256 - 65 else status - 128 if status > 128 else 0
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"it ended with exit status {status}"
    hint = "; for want of memory? see dmesg" if name == "SIGKILL" else ""
    return f"it ended with exit status {status} (killed by {name}{hint})"
