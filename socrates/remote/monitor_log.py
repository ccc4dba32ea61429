"""What a watch of days says: each trouble once for as long as it lasts, and a record of all of them.

Covers: texts that come from another machine reach the terminal without escape sequences.
Does not cover: where the record is kept (`monitor.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from socrates.remote.untrusted import plain

KEPT = 500  # downloads and problems in the record


@dataclass
class Log:
    """Lines for the person, each problem once for as long as it lasts, and the record of them.

    Attributes:
        write: prints a line.
        problems: every problem so far: time, what, solved.
    """

    write: Callable[[str], None]
    problems: list[dict[str, Any]] = field(default_factory=list)
    _open: dict[Hashable, dict[str, Any]] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """Print a line with the local time, as in the guide."""
        self.write(f"[{datetime.now():%Y-%m-%d %H:%M:%S}] {plain(text, 1000)}")

    def begin(self, key: Hashable, text: str, *, problem: bool = True) -> None:
        """Say something that lasts, unless it was said already; a mere notice does not enter the record."""
        if key not in self._open:
            self.say(text)
            self._open[key] = {"time": now(), "what": text, "solved": False}
            if problem:
                self.problems.append(self._open[key])
                del self.problems[:-KEPT]

    def end(self, key: Hashable, text: str | None = None) -> None:
        """It is over; said only where there is something to say."""
        problem = self._open.pop(key, None)
        if problem is not None:
            problem["solved"] = True
            if text:
                self.say(text)

    def is_open(self, key: Hashable) -> bool:
        """Whether that was begun and has not ended."""
        return key in self._open


def now() -> str:
    """The local time with its zone, as ISO 8601."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
