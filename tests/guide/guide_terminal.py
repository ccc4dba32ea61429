"""A person's terminals: a bash that keeps folder and variables from one command to the next, and commands beside it.

Each runs in a session of its own, as a terminal window does; Ctrl+C reaches all that was started there. A pipe fails
where any of its commands fails, as a reader would see.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

# Commands arrive on one descriptor and their statuses leave on another; both are closed for what is run.
_LOOP = r"""
set -o pipefail
while IFS= read -r -d '' command <&{commands} && IFS= read -r -d '' input <&{commands} &&
  IFS= read -r -d '' output <&{commands}; do
  eval "$command" <"$input" >"$output" 2>&1 {commands}<&- {statuses}>&-
  printf '%s\n' "$?" >&{statuses}
done
"""


class TerminalError(Exception):
    """A command did not end in time, or took its terminal with it."""


class Terminal:
    """One bash that runs commands as they are typed.

    Args:
        folder: where it starts.
        environment: its variables, all of them.
        notes: folder for what is typed into commands and what they print.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], notes: Path) -> None:
        commands, self._commands = os.pipe()
        self._statuses, statuses = os.pipe()
        self._notes, self._count = notes, 0
        notes.mkdir(parents=True, exist_ok=True)
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-c", _LOOP.format(commands=commands, statuses=statuses)],
            cwd=folder,
            env=dict(environment),
            pass_fds=(commands, statuses),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(commands)
        os.close(statuses)

    def run(self, command: str, typed: str = "", timeout: float = 120) -> tuple[int, str]:
        """The command's exit status and output; ``typed`` is its standard input."""
        self._count += 1
        output = self._notes / f"{self._bash.pid}-{self._count}.out"
        given = Path(os.devnull)
        if typed:
            given = output.with_suffix(".in")
            given.write_text(typed, encoding="utf-8")
        os.write(self._commands, f"{command}\0{given}\0{output}\0".encode())
        ready, _, _ = select.select([self._statuses], [], [], timeout)
        status = os.read(self._statuses, 16).decode().strip() if ready else ""
        text = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
        if not status:
            self.close()
            raise TerminalError(f"not ended after {timeout:.0f} s, or its shell has ended\n{text}")
        return int(status), text

    def state(self) -> tuple[Path, dict[str, str]]:
        """The folder in which it is now, and its variables."""
        _, text = self.run("printf '%s\\0' \"$PWD\"; env -0")
        (self._notes / f"{self._bash.pid}-{self._count}.out").unlink()  # it holds the token
        folder, *variables = text.rstrip("\0").split("\0")
        return Path(folder), dict(variable.partition("=")[::2] for variable in variables)

    def close(self) -> None:
        """Close the window."""
        if self._bash.returncode is not None:
            return
        os.close(self._commands)
        os.close(self._statuses)
        try:
            self._bash.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self._bash.pid, signal.SIGKILL)
            self._bash.wait()


class Beside:
    """A command in a terminal of its own, until Ctrl+C."""

    def __init__(self, command: str, state: tuple[Path, Mapping[str, str]], output: Path) -> None:
        self.command, self._state, self._output = command, state, output
        folder, variables = state
        with output.open("ab") as file:
            self._process = subprocess.Popen(
                ["bash", "--noprofile", "--norc", "-o", "pipefail", "-c", command],
                cwd=folder,
                env=dict(variables),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it has printed so far; with what it printed when it was started before with the same file."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def again(self) -> Beside:
        """The same command again, where it was typed before."""
        return Beside(self.command, self._state, self._output)

    def wait_until(self, shown: Callable[[], bool], timeout: float) -> bool:
        """Whether something was shown within the time, or before the command ended."""
        deadline = time.monotonic() + timeout
        while not shown():
            if time.monotonic() > deadline or self._process.poll() is not None:
                return shown()
            time.sleep(0.2)
        return True

    def interrupt(self) -> int:
        """Press Ctrl+C; gives the exit status as a shell tells it."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
        try:
            status = self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            raise TerminalError(f"not ended 20 s after Ctrl+C: {self.command}\n{self.output}") from None
        return status if status >= 0 else 128 - status
