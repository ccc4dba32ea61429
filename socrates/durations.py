"""Time spans in words."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A time span in words: "40 s", "12 min", "5 h 07 min", "2 d 3 h"."""
    if seconds < 100:
        return f"{max(seconds, 0):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 100 else f"{hours // 24} d {hours % 24} h"
