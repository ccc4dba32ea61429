"""A person's terminal: its folder and exported variables last from one command to the next.

Each command runs in a session of its own, as a terminal window does; Ctrl+C reaches all that was started there. A pipe
fails where any of its commands fails, as a reader would see.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path


class TerminalError(Exception):
    """A command did not end in time, or took its terminal with it."""


class Job:
    """A command that has been started; what it prints goes to a file."""

    def __init__(self, command: str, folder: Path, variables: Mapping[str, str], output: Path, *, reads: bool) -> None:
        self.command, self.path = command, output
        with output.open("ab") as file:
            self.process = subprocess.Popen(
                ["bash", "--noprofile", "--norc", "-o", "pipefail", "-c", command],
                cwd=folder,
                env=dict(variables),
                stdin=subprocess.PIPE if reads else subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it has printed so far; with what was printed when it was started before with the same file."""
        return self.path.read_text(encoding="utf-8", errors="replace")

    def wait_until(self, shown: Callable[[], bool], timeout: float) -> bool:
        """Whether something was shown within the time, or before the command ended."""
        deadline = time.monotonic() + timeout
        while not shown():
            if time.monotonic() > deadline or self.process.poll() is not None:
                return shown()
            time.sleep(0.2)
        return True

    def end(self, typed: str = "", timeout: float = 20) -> int:
        """Its exit status as a shell tells it, once it has ended; ``typed`` is its standard input."""
        try:
            self.process.communicate(typed.encode() if self.process.stdin else None, timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise TerminalError(f"not ended after {timeout:.0f} s: {self.command}\n{self.output}") from None
        status = self.process.returncode
        return status if status >= 0 else 128 - status

    def interrupt(self) -> int:
        """Press Ctrl+C; gives the exit status."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        return self.end()


class Terminal:
    """Runs commands as they are typed, one after the other.

    Args:
        folder: where it starts.
        environment: its variables, all of them.
        notes: folder for what its commands print.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], notes: Path) -> None:
        self.folder, self.variables, self._notes = folder, dict(environment), notes
        notes.mkdir(parents=True, exist_ok=True)

    def start(self, command: str, output: Path | None = None, *, reads: bool = False) -> Job:
        """Start a command beside what is typed here later; ``output``: the file of an earlier one."""
        output = output or self._notes / f"{len(list(self._notes.iterdir()))}.out"
        return Job(command, self.folder, self.variables, output, reads=reads)

    def run(self, command: str, typed: str = "", timeout: float = 120) -> tuple[int, str]:
        """The command's exit status and output; ``typed`` is its standard input."""
        state = self._notes / "state"
        keep = f'trap \'s=$?; {{ printf "%s\\0" "$PWD"; env -0; }} >{shlex.quote(str(state))}; exit $s\' EXIT\n'
        job = self.start(keep + command, reads=bool(typed))
        status = job.end(typed, timeout)
        if not state.exists():
            raise TerminalError(f"its shell has ended: {command}\n{job.output}")
        folder, *variables = state.read_text(encoding="utf-8").rstrip("\0").split("\0")
        state.unlink()  # it holds the token
        self.folder, self.variables = Path(folder), dict(item.partition("=")[::2] for item in variables)
        return status, job.output
