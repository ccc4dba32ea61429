"""The walk through the pages: every command as printed, in order, and what became of it.

It stops at the first command that does not do what its page says: what follows rests on it.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from guide_laptop import TOKEN, Laptop
from guide_lines import first_missing, says_something
from guide_pages import Command
from guide_tables import (
    FILES,
    NOT_RUN,
    PLACEHOLDERS,
    STATUS,
    WAIT_FOR_TRAINING,
    is_beside,
    is_end_of_machine,
    is_watched,
    opens_session,
)
from guide_terminal import Beside, Terminal, TerminalError

LIMIT_S = 300.0  # for one command; all take seconds on a quiet machine
PASSED, FAILED, NOT = "passed", "FAILED", "not run"
_INTERRUPTED = 130
_STATUS_LINE = "guide-walk: status "
_KEY = "TNR_API_TOKEN"  # without it the provider's CLI asks to log in; a folder as the machine would not miss it


class Result(NamedTuple):
    """What became of one command."""

    command: Command
    outcome: str
    reason: str = ""
    seconds: float = 0.0


class _Failure(Exception):
    """A command did not do what its page says."""


class Walk:
    """Goes through pages with one laptop.

    Args:
        laptop: made before.
        tell: gets each result at once.
    """

    def __init__(self, laptop: Laptop, tell: Callable[[Result], None]) -> None:
        self.laptop, self.tell = laptop, tell
        self.results: list[Result] = []
        self._besides: list[tuple[Command, Beside]] = []
        self._terminal: Terminal | None = None

    def page(self, blocks: list[list[Command]]) -> bool:
        """Run a page's blocks in a new terminal; whether all did what the page says."""
        self._terminal = self._new_terminal()
        try:
            done = all(self._run_block(block) for block in blocks)
            if done and blocks:
                self._close_besides()
                self._expect_no_token()
            return done
        except (_Failure, TerminalError) as failure:
            self._note(Result(blocks[-1][-1], FAILED, str(failure)))
            return False
        finally:
            self._terminal.close()

    def end(self) -> None:
        """Close the terminals and give the machines back, whatever they hold."""
        for _, beside in self._besides:
            beside.interrupt()
        self._besides.clear()
        for machine in self.laptop.machines():
            self._here("./scripts/tnr", "delete", machine.parents[1].name, "--yes", "--force")

    def _run_block(self, block: list[Command]) -> bool:
        """A block's commands, in a new terminal where the page says so: it knows nothing of the first one."""
        first = self._terminal
        assert first is not None
        if block[0].is_apart:
            self._terminal = self._new_terminal()
        try:
            done = all(self._run_step(step) for step in steps_of(block))
            if done and self._terminal is not first and _KEY in first.state()[1] and _KEY not in self._state()[1]:
                raise _Failure(f"{block[0].page}:{block[0].line}: this terminal has no {_KEY}, as the first one has")
            return done
        finally:
            if self._terminal is not first:
                self._terminal.close()
                self._terminal = first

    def _new_terminal(self) -> Terminal:
        return Terminal(self.laptop.folder, self.laptop.environment, self.laptop.notes)

    def _run_step(self, step: list[Command]) -> bool:
        """One command, or a session on a machine up to `exit`."""
        started = time.monotonic()
        key = step[0].key
        if key in NOT_RUN:
            self._note(Result(step[0], NOT, NOT_RUN[key]))
            return True
        try:
            if key in WAIT_FOR_TRAINING or is_end_of_machine(key):
                self._wait_for_training()
            if is_end_of_machine(key):
                self._close_besides(key.split()[2])
                self._expect_no_token()  # while what is there can be looked at
            reason = self._perform(step)
            if absent := [name for name in FILES.get(key, ()) if not (self.laptop.folder / name).is_file()]:
                raise _Failure(f"made no {', '.join(absent)}")
        except (_Failure, TerminalError) as failure:
            self._note(Result(step[0], FAILED, str(failure), time.monotonic() - started))
            return False
        seconds = time.monotonic() - started
        for command in step:
            self._note(Result(command, PASSED, reason, seconds if command is step[0] else 0.0))
        return True

    def _perform(self, step: list[Command]) -> str:
        """Do it and check it; gives what is to be said of it."""
        first, last = step[0], step[-1]
        typed = fill_in(first.text)
        if is_beside(first.key):
            # Without a block of its own that says what to type there, in a terminal that is as it is opened.
            state = self._state() if first.is_apart else (self.laptop.folder, self.laptop.environment)
            self._besides.append((first, self._open(typed, state)))
            return "until Ctrl+C"
        if is_watched(first.key):
            if not says_something(first.expected):
                raise _Failure("goes on until Ctrl+C, but the page does not say what it shows")
            beside = self._open(typed, self._state())
            shown = beside.wait_until(lambda: bool(beside.output) and _is_shown(first, beside.output), LIMIT_S)
            _expect_status(beside.interrupt(), _INTERRUPTED, beside.output)
            if not shown:
                _expect_lines(first, beside.output)
            return "until Ctrl+C"
        assert self._terminal is not None
        if len(step) > 1:
            status, output = self._terminal.run(typed, _session(step[1:]), LIMIT_S)
            _expect_session(step[1:-1], output)
        else:
            status, output = self._terminal.run(typed, timeout=LIMIT_S)
        wanted, reason = STATUS.get(first.key, (0, ""))
        _expect_status(status, wanted, output)
        _expect_lines(last, output)
        return f"status {wanted}: {reason}" if reason else ""

    def _open(self, typed: str, state: tuple[Path, Mapping[str, str]]) -> Beside:
        number = len(list(self.laptop.notes.glob("beside-*")))
        return Beside(typed, state, self.laptop.notes / f"beside-{number}.out")

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
        for i, (command, beside) in enumerate(self._besides):
            if self._missing(instance):
                _expect_status(beside.interrupt(), _INTERRUPTED, beside.output)
                beside = beside.again()
                self._besides[i] = (command, beside)
            while self._missing(instance) or not _is_shown(command, beside.output):
                if time.monotonic() > deadline:
                    _expect_lines(command, beside.output)
                    raise _Failure(f"{command.key}: has not fetched all\n{_tail(beside.output)}")
                time.sleep(0.3)

    def _close_besides(self, instance: str = "") -> None:
        """Ctrl+C in each (that looks after this instance); one that has ended by itself fails."""
        closed = [pair for pair in self._besides if instance in ("", pair[0].key.split()[1])]
        self._besides = [pair for pair in self._besides if pair not in closed]
        for command, beside in closed:
            try:
                shown = beside.wait_until(lambda: bool(beside.output), LIMIT_S)  # noqa: B023 - called at once
                _expect_status(beside.interrupt(), _INTERRUPTED, beside.output)
                _expect_lines(command, beside.output)
                if not shown:
                    raise _Failure("showed nothing")
            except _Failure as failure:
                raise _Failure(f"{command.page}:{command.line}: {command.key}: {failure}") from None

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

    def _state(self) -> tuple[Path, dict[str, str]]:
        assert self._terminal is not None
        return self._terminal.state()

    def _note(self, result: Result) -> None:
        self.results.append(result)
        self.tell(result)


def steps_of(block: list[Command]) -> list[list[Command]]:
    """A block's commands, those typed on a machine (up to `exit`) together with the one that opens the session."""
    steps: list[list[Command]] = []
    is_open = False
    for command in block:
        if is_open:
            steps[-1].append(command)
            is_open = command.text != "exit"
        else:
            steps.append([command])
            is_open = opens_session(command.key) and any(c.text == "exit" for c in block)
    return steps


def fill_in(text: str) -> str:
    """What the reader types: the command with something in place of the page's placeholders."""
    for placeholder, value in PLACEHOLDERS.items():
        text = text.replace(placeholder, value)
    return text


def unused_entries(pages: Iterable[list[list[Command]]]) -> list[str]:
    """Commands in the tables that stand on no page."""
    keys = {command.key for blocks in pages for block in blocks for command in block}
    return sorted({*NOT_RUN, *STATUS, *WAIT_FOR_TRAINING, *FILES} - keys)


def _session(commands: list[Command]) -> str:
    """What is typed there; each command's status is told, as bash goes on after one that fails."""
    lines = [fill_in(command.text) + f"\nprintf '\\n{_STATUS_LINE}%s\\n' $?" for command in commands[:-1]]
    return "\n".join(["set -o pipefail", *lines, commands[-1].text, ""])


def _expect_session(commands: list[Command], output: str) -> None:
    """Each command typed there, but for `exit`, did what the page says."""
    shown, statuses = [""], []
    for line in output.splitlines():
        if line.startswith(_STATUS_LINE):
            statuses.append(line.removeprefix(_STATUS_LINE))
            shown.append("")
        else:
            shown[-1] += line + "\n"
    if statuses != ["0"] * len(commands):
        raise _Failure(f"a command of the session failed\n{_tail(output)}")
    for command, text in zip(commands, shown, strict=False):
        _expect_lines(command, text)


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
    """Whether a lock of a training there is held."""
    for lock in [machine / ".run" / "lock", *machine.glob("models/*/.training.lock")]:
        if not lock.is_file():
            continue
        descriptor = os.open(lock, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
    return False
