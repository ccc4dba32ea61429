"""A rented instance, reached through tnr: run a command there, copy files.

Covers: everything goes through `scripts/tnr`, which alone knows how a machine is reached; a machine that cannot be
reached is told apart from a command that failed. Does not cover: what is run, and whether what arrived is complete.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

from socrates.errors import SocratesError, plain

REMOTE_ROOT = "socrates-training"  # in the home folder of the machine, as in the guide
SILENCE = 300.0  # seconds
NOT_REACHED = 254  # tnr's exit status for a machine that cannot be reached
_TNR = "tnr: error: "
_ANSWER_LIMIT = 64 * 2**20  # bytes that a command, or a copy, may say
_LOOK = 0.25  # seconds between two looks at what runs
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Unreachable(SocratesError):
    """The machine could not be reached, or the connection was lost midway: the same call may succeed later."""


def project_root() -> Path:
    """The project's folder on the laptop: what the bash scripts exported, else the current folder."""
    return Path(os.environ.get("SOCRATES_ROOT") or Path.cwd())


def check_instance_id(text: str) -> str:
    """The instance's id, if it can be one; SocratesError otherwise."""
    if not _ID.fullmatch(text):
        raise SocratesError(f"{text!r} is no instance id; `tnr status` lists them (0 is the first)")
    return text


@dataclass(frozen=True)
class Instance:
    """One machine.

    Attributes:
        root: the project's folder on the laptop, which holds scripts/tnr.
        id: the machine's id, as in `tnr status`.
    """

    root: Path
    id: str

    def run(
        self, command: str, *, stdin: bytes = b"", silence: float = SILENCE, accept: Container[int] = (0,)
    ) -> CompletedProcess[bytes]:
        """Run a bash command in the machine's home folder.

        Args:
            command: bash.
            stdin: what it reads; the place for secrets.
            silence: seconds without a word from it, after which the machine counts as unreachable.
            accept: the statuses that are no error.

        Raises:
            Unreachable: no connection, or it was lost.
            SocratesError: the command failed.
        """
        done = self._tnr(["ssh", self.id, command], stdin=stdin, silence=silence)
        if done.returncode not in accept:
            raise self.failure(done)
        return done

    def failure(self, done: CompletedProcess[bytes]) -> SocratesError:
        """The error that a command's status and its last words make."""
        said = _said(done.stderr)
        if said.startswith(_TNR):  # nothing was run: tnr itself says why
            return SocratesError(said.removeprefix(_TNR))
        return SocratesError(f"instance {self.id}: a command failed (status {done.returncode}): {said}")

    def copy(
        self, sources: Sequence[str], target: str, pass_fds: Sequence[int] = (), watch: Callable[[], None] | None = None
    ) -> None:
        """Copy files or folders from there or to there, in one connection; `tnr scp`'s rules for trailing slashes hold.

        Args:
            sources: absolute paths here, or ID:PATH, relative to the machine's home folder.
            target: the other way round.
            pass_fds: open files that the processes here inherit (locks).
            watch: called again and again meanwhile; what it raises ends the copying.

        Raises:
            Unreachable: no connection, or it was lost; some files may be there, one of them in part.
            SocratesError: a source is not there, or something cannot be written.
        """
        done = self._tnr(["scp", "-r", *sources, target], pass_fds=pass_fds, watch=watch)
        if done.returncode != 0:
            raise SocratesError(f"instance {self.id}: copying failed: {_said(done.stderr)}")

    def _tnr(
        self,
        arguments: list[str],
        *,
        stdin: bytes = b"",
        silence: float | None = None,
        pass_fds: Sequence[int] = (),
        watch: Callable[[], None] | None = None,
    ) -> CompletedProcess[bytes]:
        program = str(self.root / "scripts" / "tnr")
        try:
            # A process group of its own: ssh and rsync end with it, when we stop waiting and on Ctrl+C.
            process = subprocess.Popen(
                [program, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=tuple(pass_fds),
                env={**os.environ, "SOCRATES_ROOT": str(self.root)},
                process_group=0,
            )
        except OSError as error:
            raise SocratesError(f"{program}: cannot run it: {error.strerror or error}") from error
        with process:
            try:
                stdout, stderr = _communicate(process, stdin, silence, watch)
            except BaseException as error:
                _kill_group(process)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise Unreachable(f"instance {self.id}: no answer within {silence:.0f} s") from error
                raise
        if process.returncode == NOT_REACHED:
            _kill_group(process)  # an ssh that still waits for an answer holds the locks that it inherited
            raise Unreachable(_said(stderr) or f"instance {self.id} cannot be reached")
        if process.returncode < 0:
            raise Unreachable(f"instance {self.id}: the connection's process was ended by signal {-process.returncode}")
        return CompletedProcess(arguments, process.returncode, stdout, stderr)


def _communicate(
    process: subprocess.Popen[bytes], stdin: bytes, silence: float | None, watch: Callable[[], None] | None
) -> tuple[bytes, bytes]:
    """What a process says, up to a limit; TimeoutExpired where it says nothing for ``silence`` seconds (None waits)."""
    said, heard = 0, time.monotonic()
    while True:
        try:
            answer, waited = process.communicate(stdin, _LOOK), None
        except subprocess.TimeoutExpired as timeout:
            answer, waited, stdin = (timeout.output or b"", timeout.stderr or b""), timeout, b""
        before, said = said, sum(map(len, answer))
        if said > _ANSWER_LIMIT:
            raise SocratesError(f"the machine answers with more than {_ANSWER_LIMIT >> 20} MiB: not read")
        if waited is None:
            return answer
        if watch:
            watch()
        heard = time.monotonic() if said != before else heard
        if silence is not None and time.monotonic() - heard > silence:
            raise waited


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End tnr and all that it started; rsync gets the time to keep the part of a file that has come."""
    deadline = time.monotonic() + 10.0
    with suppress(ProcessLookupError):  # nobody is left
        os.killpg(process.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)


def _said(stderr: bytes) -> str:
    """What a program said went wrong: from tnr's last message on, else from its last error, else its last line."""
    lines = [line for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    starts = [i for i, line in enumerate(lines) if line.startswith("tnr: ")]
    starts = starts or [i for i, line in enumerate(lines) if "error:" in line] or [len(lines) - 1]
    return "\n".join(plain(line) for line in lines[max(starts[-1], 0) :][:10])
