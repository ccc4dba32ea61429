"""The walk through the pages: every command as printed, in order, and what became of it.

It stops at the first command that does not do what its page says: what follows rests on it.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from guide_laptop import TOKEN, Laptop
from guide_lines import first_missing, says_something
from guide_pages import Command
from guide_tables import NOT_RUN, STATUS, WAIT_FOR_TRAINING, fill_in, is_beside, is_end_of_machine, is_watched, steps_of
from guide_terminal import Job, Terminal, TerminalError

from socrates.files import lock_is_held

LIMIT_S = 300.0  # for one command; all take seconds on a quiet machine
PASSED, FAILED, NOT = "passed", "FAILED", "not run"
_INTERRUPTED = 130


class Result(NamedTuple):
    """What became of one command."""

    command: Command
    outcome: str
    reason: str = ""
    seconds: float = 0.0


class _Failure(Exception):
    """A command did not do what its page says."""


class Walk:
    """Goes through a page with one laptop.

    Args:
        laptop: made before.
        tell: gets each result at once.
    """

    def __init__(self, laptop: Laptop, tell: Callable[[Result], None]) -> None:
        self.laptop, self.tell = laptop, tell
        self.results: list[Result] = []
        self._besides: list[tuple[Command, Terminal, Job]] = []
        self._terminal = self._first = self._new_terminal()

    def page(self, blocks: list[list[Command]]) -> bool:
        """Run a page's blocks; whether all did what the page says."""
        for block in blocks:
            # In a new terminal where the page says so: it knows nothing of the first one.
            self._terminal = self._new_terminal() if block[0].is_apart else self._first
            if not all(map(self._run_step, steps_of(block))):
                return False
        try:
            self._close_besides()
            self._expect_no_token()
        except (_Failure, TerminalError) as failure:
            return self._note(blocks[-1][-1], FAILED, str(failure))
        return True

    def end(self) -> None:
        """Close the terminals and give the machines back, whatever they hold."""
        for _, _, job in self._besides:
            job.interrupt()
        for machine in self.laptop.machines():
            self._here("./scripts/tnr", "delete", machine.parents[1].name, "--yes", "--force")

    def _new_terminal(self) -> Terminal:
        return Terminal(self.laptop.folder, self.laptop.environment, self.laptop.notes)

    def _run_step(self, step: list[Command]) -> bool:
        """One command, or a session on a machine up to `exit`."""
        started = time.monotonic()
        key = step[0].key
        if key in NOT_RUN:
            return self._note(step[0], NOT, NOT_RUN[key])
        try:
            if key in WAIT_FOR_TRAINING or is_end_of_machine(key):
                self._wait_for_training()
            if is_end_of_machine(key):
                self._close_besides(key.split()[2])
                self._expect_no_token()  # while what is there can be looked at
            reason = self._perform(step)
        except (_Failure, TerminalError) as failure:
            return self._note(step[0], FAILED, str(failure), time.monotonic() - started)
        for command in step:
            self._note(command, PASSED, reason, time.monotonic() - started)
        return True

    def _perform(self, step: list[Command]) -> str:
        """Do it and check it; gives what is to be said of it."""
        first = step[0]
        typed = fill_in(first.text)
        if is_beside(first.key):
            # Without a block of its own that says what to type there, in a terminal that is as it is opened.
            terminal = self._terminal if first.is_apart else self._new_terminal()
            self._besides.append((first, terminal, terminal.start(typed)))
            return "until Ctrl+C"
        if is_watched(first.key):
            if not says_something(first.expected):
                raise _Failure("goes on until Ctrl+C, but the page does not say what it shows")
            job = self._terminal.start(typed)
            job.wait_until(lambda: bool(job.output) and _is_shown(first, job.output), LIMIT_S)
            _expect_status(job.interrupt(), _INTERRUPTED, job.output)
            _expect_lines(first, job.output)
            return "until Ctrl+C"
        # A session on a machine ends at the first command that fails.
        session = ["set -e -o pipefail", *(fill_in(command.text) for command in step[1:]), ""]
        status, output = self._terminal.run(typed, "\n".join(session) if step[1:] else "", LIMIT_S)
        wanted, reason = STATUS.get(first.key, (0, ""))
        _expect_status(status, wanted, output)
        for command in step:
            _expect_lines(command, output)
        return f"status {wanted}: {reason}" if reason else ""

    def _wait_for_training(self) -> None:
        """Until the training on each machine is complete, and the monitors have brought all of it."""
        deadline = time.monotonic() + LIMIT_S
        for machine in self.laptop.machines():
            while not all(_is_complete(log) for log in machine.glob("training*.log")) or _is_training(machine):
                if time.monotonic() > deadline:
                    logs = "\n".join(_tail(log.read_text()) for log in machine.glob("training*.log"))
                    raise _Failure(f"the training there is not complete after {LIMIT_S:.0f} s\n{logs}")
                time.sleep(0.3)
            self._fetch_now(machine.parents[1].name, deadline)

    def _fetch_now(self, instance: str, deadline: float) -> None:
        """A monitor would look again in minutes: Ctrl+C, and the same command again, as the pages say."""
        for i, (command, terminal, job) in enumerate(self._besides):
            if self._missing(instance):
                _expect_status(job.interrupt(), _INTERRUPTED, job.output)
                job = terminal.start(job.command, job.path)
                self._besides[i] = (command, terminal, job)
            while self._missing(instance) or not _is_shown(command, job.output):
                if time.monotonic() > deadline:
                    _expect_lines(command, job.output)
                    raise _Failure(f"{command.key}: has not fetched all\n{_tail(job.output)}")
                time.sleep(0.3)

    def _close_besides(self, instance: str = "") -> None:
        """Ctrl+C in each (that looks after this instance); one that has ended by itself fails."""
        closed = [beside for beside in self._besides if instance in ("", beside[0].key.split()[1])]
        self._besides = [beside for beside in self._besides if beside not in closed]
        for command, _, job in closed:
            try:
                shown = job.wait_until(lambda: bool(job.output), LIMIT_S)  # noqa: B023 - called at once
                _expect_status(job.interrupt(), _INTERRUPTED, job.output)
                _expect_lines(command, job.output)
                if not shown:
                    raise _Failure("showed nothing")
            except _Failure as failure:
                raise _Failure(f"{command.where}: {command.key}: {failure}") from None

    def _expect_no_token(self) -> None:
        """A token goes to the machine over standard input: into no file, log or output on either side."""
        if found := self.laptop.files_with(TOKEN):
            raise _Failure(f"the token stands in {', '.join(map(str, found))}")

    def _missing(self, instance: str) -> bool:
        return self._here("./scripts/monitor_checkpoints.sh", instance, "--missing") != 0

    def _here(self, *command: str) -> int:
        folder, variables = self.laptop.folder, self.laptop.environment
        return subprocess.run(
            command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, capture_output=True, check=False
        ).returncode

    def _note(self, command: Command, outcome: str, reason: str = "", seconds: float = 0.0) -> bool:
        """Keep and tell a result; whether the walk goes on."""
        self.results.append(Result(command, outcome, reason, seconds))
        self.tell(self.results[-1])
        return outcome != FAILED


def _is_shown(command: Command, output: str) -> bool:
    return first_missing(command.expected, output) is None


def _expect_lines(command: Command, output: str) -> None:
    missing = first_missing(command.expected, output)
    if missing is not None:
        raise _Failure(f"did not print\n{missing}\nbut\n{_tail(output)}")


def _expect_status(status: int, wanted: int, output: str) -> None:
    if status != wanted:
        raise _Failure(f"exit status {status}, not {wanted}\n{_tail(output)}")


def _tail(output: str, lines: int = 40) -> str:
    return "\n".join(output.splitlines()[-lines:])


def _is_complete(log: Path) -> bool:
    return "\nTraining complete" in log.read_text(encoding="utf-8", errors="replace")


def _is_training(machine: Path) -> bool:
    locks = [machine / ".run" / "lock", *machine.glob("models/*/.training.lock")]
    return any(lock_is_held(lock) for lock in locks)
