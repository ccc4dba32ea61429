"""Background processes: starting a supervisor, watching its beginning, and stopping it.

Covers: one at a time in a folder, and none beside a training that was started by hand. It goes on when the caller, its
terminal and its connection are gone: a session of its own, SIGHUP ignored, none of the caller's open files (a pipe kept
open would make ssh wait).
Does not cover: what the supervisor does then (`supervisor.py`), and what ends all processes of a user at logout (some
systemd settings).
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from socrates.checkpoint import newest_complete
from socrates.errors import EXIT_DONE, EXIT_NO, SocratesError
from socrates.files import try_lock
from socrates.machine.process_tree import (
    SAVE_PATIENCE,
    boot_id,
    find_ranks,
    group_lives,
    in_group,
    signal_ranks,
    wait_for_save,
    wait_until,
)
from socrates.machine.run_state import (
    GONE,
    LOCK,
    RUN_FOLDER,
    SupervisorRecord,
    Unsupervised,
    find_run_state,
    find_supervised,
    find_unsupervised,
    last_lines,
    read_record,
    utc_time,
    way_on,
    with_attempt,
    write_record,
)
from socrates.machine.supervisor import Supervisor, TrainingJob
from socrates.telemetry.log import Progress, read_progress

_END_PATIENCE = 120.0  # seconds for a supervisor to end what it runs by force


@dataclass(frozen=True)
class Started:
    """A supervisor that was started, and what there was before it.

    Attributes:
        pid: its process.
        log: its log.
        before: the progress of an earlier run in this output folder.
    """

    pid: int
    log: str
    output_dir: str
    before: Progress | None


def start(job: TrainingJob) -> Started:
    """Start a supervisor for a job in the current folder, and come back as soon as it runs.

    Raises:
        SocratesError: a training runs already; the log cannot be written.
    """
    lock = _take_lock()
    try:
        _refuse_beside(job)
        with _open_log(job.log) as log:
            offset = os.fstat(log.fileno()).st_size
            before = read_progress(job.output_dir)

            def work(answer: Callable[[str], None]) -> None:
                _write_holder(lock)
                Supervisor(job, offset, lambda: answer(str(os.getpid()))).run()

            text = run_detached(work, log, keep=lock.fileno())
    finally:
        lock.close()  # the supervisor holds it on
    if not text.isdecimal():
        raise SocratesError(text or f"the supervisor did not start; see {job.log}")
    return Started(int(text), job.log, job.output_dir, before)


def watch(started: Started, seconds: float, say: Callable[[str], None]) -> int:
    """Watch the beginning: until the training has done a step, is over, or the time is.

    Returns:
        0 for a training that runs or is complete; 1 for one that stopped, and for one that died, after its last lines
        on standard error.
    """
    deadline = time.monotonic() + seconds
    while True:
        record, supervised = find_supervised()
        progress = read_progress(started.output_dir)
        if record and record.state == "complete":
            say(f"Training complete: {record.reason}")
            return EXIT_DONE
        if record and not supervised and record.state == "stopped":
            say(f"Training stopped: {record.reason}")
            _report_way_on(record, say)
            return EXIT_NO
        if not supervised:
            _report_death(started, record, (record.reason if record else None) or GONE)
            return EXIT_NO
        is_new = progress and (not started.before or progress.started != started.before.started)
        if progress and is_new and progress.step > progress.started_step:
            say(f"Training runs: step {progress.step} of {progress.max_steps} is done")
            return EXIT_DONE
        if time.monotonic() >= deadline:
            say(f"Still starting after {seconds:g} s: no step is done yet; follow it with: tail -f {started.log}")
            return EXIT_DONE
        time.sleep(0.2)


def stop(say: Callable[[str], None], at_once: bool = False) -> int:
    """End the training that the supervisor of this folder runs, and wait until it is over.

    It first finishes its step and saves a checkpoint; Ctrl+C meanwhile ends it at once.

    Args:
        say: tells a person.
        at_once: do not wait for a checkpoint.

    Returns:
        0 when it has ended; 1 where none was running.

    Raises:
        SocratesError: it does not end, or the training that runs was not started by the supervisor.
    """
    run_state = find_run_state()
    record = run_state.record
    if record and run_state.supervised:
        _stop_supervisor(record, say, at_once)
        record = read_record() or record
        say(f"{record.state}: {record.reason}")
    elif record and (orphan := _left_over(record, run_state.unsupervised)):
        say(f"The supervisor is gone; stopping its training ({orphan}) ...")
        record = _end_group(record, say, at_once)
        write_record(replace(record, state="stopped", ended=utc_time(), reason=f"{GONE}; its training was stopped"))
        say("stopped")
    elif run_state.unsupervised:
        other = run_state.unsupervised[0]
        raise SocratesError(
            f"this training was started without the supervisor ({other}); end it after a checkpoint with: "
            f"kill {other.pid}"
        )
    else:
        say(f"Nothing is running ({run_state.state})")
        return EXIT_NO
    if record.state != "complete":
        _report_way_on(record, say)
    return EXIT_DONE


def _stop_supervisor(record: SupervisorRecord, say: Callable[[str], None], at_once: bool) -> None:
    """Ask a supervisor to end its training, and wait for its own end."""

    def over() -> bool:
        return not record.process.is_alive()

    if not at_once:
        say(
            f"Stopping process {record.pid} and its training, after this step and its checkpoint: this may take some "
            "minutes (Ctrl+C, or stop --now, ends it at once) ..."
        )
        _signal(record.pid, signal.SIGTERM)
        try:
            if wait_for_save(over, say, SAVE_PATIENCE + _END_PATIENCE):
                return
        except KeyboardInterrupt:
            say("")
    say(f"Ending process {record.pid} and its training at once; this takes up to half a minute ...")
    _signal(record.pid, signal.SIGINT)
    if not wait_until(over, _END_PATIENCE):
        raise SocratesError(f"process {record.pid} has not ended after {_END_PATIENCE:g} s; look at {record.log}")


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _take_lock() -> IO[str]:
    try:
        RUN_FOLDER.mkdir(mode=0o700, exist_ok=True)
        RUN_FOLDER.chmod(0o700)
        lock = LOCK.open("a+", encoding="utf-8")
    except OSError as error:
        raise SocratesError(f"{RUN_FOLDER}: cannot write there: {error.strerror or error}") from error
    if not try_lock(lock):
        lock.seek(0)
        holder = lock.read().strip() or "process unknown"
        lock.close()
        raise SocratesError(
            f"a training is running here already: {holder}\n"
            "  what it does: python scripts/supervise.py state\n"
            "  to end it:    python scripts/supervise.py stop"
        )
    _write_holder(lock)
    return lock


def _write_holder(lock: IO[str]) -> None:
    with suppress(OSError):  # a full disk; who holds it is said for convenience
        lock.seek(0)
        lock.truncate()
        lock.write(f"process {os.getpid()} since {utc_time()}\n")
        lock.flush()


def _refuse_beside(job: TrainingJob) -> None:
    running = find_unsupervised(job.output_dir, supervised=False)
    if running:
        raise SocratesError(
            f"a training that no supervisor watches is running here already: {running[0]}; wait for it, or end it"
        )


def _open_log(path: str) -> IO[bytes]:
    try:
        return Path(path).open("ab")
    except OSError as error:
        raise SocratesError(f"{path}: cannot write the log: {error.strerror or error}") from error


def _report_death(started: Started, record: SupervisorRecord | None, reason: str) -> None:
    lines = last_lines(started.log, record.log_offset if record else 0)
    print(*lines, sep="\n", file=sys.stderr)
    print(f"error: the training died: {reason}; its log: {started.log}", file=sys.stderr, flush=True)


def _left_over(record: SupervisorRecord, unsupervised: tuple[Unsupervised, ...]) -> Unsupervised | None:
    """The training of a supervisor that is gone, if it is certain that it is that one."""
    if record.state != "running" or record.boot_id != boot_id() or not record.attempts:
        return None
    for item in unsupervised:
        if item.output_dir == record.output_dir and item.pid:
            with suppress(ProcessLookupError):
                if os.getpgid(item.pid) == record.attempts[-1].pid:
                    return item
    return None


def _end_group(record: SupervisorRecord, say: Callable[[str], None], at_once: bool) -> SupervisorRecord:
    """End the last attempt, whose supervisor is gone; returns its record."""
    group = record.attempts[-1].pid or 0
    ranks = [] if at_once else find_ranks(in_group(group))
    if ranks:
        if record.attempts[-1].asked is None:
            record = with_attempt(record, asked=utc_time())
            write_record(record)
            signal_ranks(ranks)
        with suppress(KeyboardInterrupt):
            wait_for_save(lambda: not group_lives(group), say)
    for number, seconds in ((signal.SIGTERM, 30), (signal.SIGKILL, 30)):
        with suppress(ProcessLookupError):
            os.killpg(group, number)
        if wait_until(lambda: not group_lives(group), seconds):
            return record
    raise SocratesError(f"process group {group} has not ended, not even when killed; restart the machine")


def _report_way_on(record: SupervisorRecord, say: Callable[[str], None]) -> None:
    checkpoint, _ = newest_complete(record.output_dir)
    if checkpoint is None:
        say(f"There is no complete checkpoint in {record.output_dir} yet: it would start over")
        return
    say(f"It can go on from {checkpoint}:\n  {way_on(record)}")


Answer = Callable[[str], None]


def run_detached(work: Callable[[Answer], None], output: IO[bytes], keep: int) -> str:
    """Begin ``work`` in a detached process, and wait for its answer only.

    Args:
        work: gets a function, to be called once, with the answer for the caller.
        output: gets standard output and standard error.
        keep: an open file to keep (a lock).

    Returns:
        The answer; of a SocratesError before it, the message; empty if it ended without.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _detach(work, output, keep, writer)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as answer:  # its end: the process has closed it, or is gone
        text = answer.read()
    os.waitpid(child, 0)
    return text


def _detach(work: Callable[[Answer], None], output: IO[bytes], keep: int, writer: int) -> None:
    """In the forked process; never returns."""

    def answer(text: str) -> None:
        os.write(writer, text.encode())
        os.close(writer)

    status = 1
    try:
        os.setsid()
        if os.fork() != 0:  # the one that remains leads no session, so that it never gets a terminal
            os._exit(0)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="replace", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="replace", closefd=False)
        _close_all_but(keep, writer)
        work(answer)
        status = 0
    except BaseException as error:
        with suppress(OSError):
            if isinstance(error, SocratesError):
                answer(str(error))
            else:
                traceback.print_exc()
    os._exit(status)


def _close_all_but(*kept: int) -> None:
    for descriptor in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208
        if descriptor > 2 and descriptor not in kept:
            with suppress(OSError):  # that of the listing itself
                os.close(descriptor)
