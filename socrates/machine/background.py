"""Background: starting a supervisor that outlives its caller, watching its beginning, and stopping it.

Covers: one at a time in a folder, and none beside a training that was started by hand. It goes on when the caller, its
terminal and its connection are gone: a session of its own, SIGHUP ignored, none of the caller's open files but the lock
(a pipe kept open would make ssh wait).
Does not cover: what the supervisor does then (`supervisor.py`), and what ends all processes of a user at logout (some
systemd settings).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

from socrates.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_NO, SocratesError
from socrates.files import cannot_write, lock_is_held, take_lock
from socrates.machine.process_tree import SAVE_PATIENCE, ask_to_save, end_marked, find_ranks, marked, wait_until
from socrates.machine.run_state import (
    GONE,
    LOCK,
    RUN_FOLDER,
    SupervisorRecord,
    find_run_state,
    find_unsupervised,
    read_end,
    read_record,
    run_state_text,
    utc_time,
    write_record,
)
from socrates.machine.supervisor import TrainingJob

_END_PATIENCE = 120.0  # seconds for a supervisor to end what it runs by force


def start(job: TrainingJob, command: list[str], seconds: float) -> int:
    """Start the supervisor of a job in the current folder, and watch until the training has done a step, or is over.

    Args:
        job: what it will run.
        command: of the process that makes a `Supervisor` for this job and runs it, in this process' environment.
        seconds: how long to watch.

    Returns:
        0 for a training that runs or is complete; 1 for one that stopped, and for one that died, after its last lines
        on standard error; 130 where Ctrl+C ended the watching, which leaves the training alone.

    Raises:
        SocratesError: a training runs already; the log cannot be written.
    """
    begun = time.time()
    try:
        RUN_FOLDER.mkdir(exist_ok=True)
        RUN_FOLDER.chmod(0o700)
        remedy = "\n  what it does: python scripts/supervise.py state\n  to end it:    python scripts/supervise.py stop"
        lock = take_lock(LOCK, "a training is running here already", remedy)
        log = Path(job.log).open("ab")  # noqa: SIM115 - closed below, like the lock
    except OSError as error:
        raise cannot_write(Path(error.filename), error) from error
    with lock, log:
        running = find_unsupervised(job.output_dir, supervised=False)
        if running:
            raise SocratesError(
                f"a training that no supervisor watches is running here already: {running[0]}; wait for it, or end it"
            )
        record = read_record()
        if record and record.state == "running":  # its supervisor was killed, and its first rank is dead, too
            write_record(replace(record, state="failed", reason=GONE, ended=utc_time()))
            end_marked(record.mark, job.grace)
        _start_supervisor(command, lock, log)
    try:
        return _watch(job.log, begun, seconds)
    except KeyboardInterrupt:
        _say("")
        print("No longer watching: the training goes on. To end it: python scripts/supervise.py stop", file=sys.stderr)
        return EXIT_INTERRUPTED


def _start_supervisor(command: list[str], lock: IO[bytes], log: IO[bytes]) -> None:
    """Returns once it is on record. It holds the lock on, and nothing else of this process."""
    offset = log.tell()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        pass_fds=[lock.fileno()],
    )
    with suppress(OSError):  # a full disk; who holds it is said for convenience
        lock.truncate(0)
        lock.write(f"process {process.pid} since {utc_time()}\n".encode())

    def is_recorded() -> bool:
        record = read_record()
        return record is not None and record.pid == process.pid

    wait_until(lambda: is_recorded() or process.poll() is not None)
    if not is_recorded():
        raise SocratesError(f"the supervisor did not start:\n{read_end(log.name, offset)}its log: {log.name}")


def _watch(log: str, begun: float, seconds: float) -> int:
    run = find_run_state()
    if run.record:
        _say(f"Training started in the background: process {run.record.pid}, log {log}")
    deadline = time.monotonic() + seconds
    while run.supervised:
        progress = run.progress
        if progress and (progress.time or 0) > begun and progress.step > (progress.started_step or 0):
            _say(f"Training runs: step {progress.step} of {progress.max_steps} is done")
            return EXIT_DONE
        if time.monotonic() >= deadline:
            _say(f"Still starting after {seconds:g} s: no step is done yet; follow it with: tail -f {log}")
            return EXIT_DONE
        time.sleep(0.2)
        run = find_run_state()
    if run.state in ("complete", "stopped"):
        _say(f"Training {run_state_text(run)}")
    else:
        print(run_state_text(run), f"error: the training died: {run.reason}", sep="\n", file=sys.stderr, flush=True)
    return EXIT_DONE if run.state == "complete" else EXIT_NO


def stop(at_once: bool = False) -> int:
    """End the training that the supervisor of this folder runs, and wait until it is over.

    It first finishes its step and saves a checkpoint; Ctrl+C meanwhile ends it at once.

    Args:
        at_once: do not wait for a checkpoint.

    Returns:
        0 when it has ended; 1 where none was running.

    Raises:
        SocratesError: it does not end, or the training that runs was not started by the supervisor.
    """
    run = find_run_state()
    record = run.record
    if record and run.supervised:
        _stop_supervisor(record, at_once)
    elif record and record.state == "running" and marked(record.mark):
        _stop_left_over(record, at_once)
    elif run.unsupervised:
        other = run.unsupervised[0]
        kill = f"kill {other.holder.removeprefix('process ').partition(' ')[0]}"
        raise SocratesError(
            f"this training was started without the supervisor ({other}); end it after a checkpoint with: {kill}"
        )
    else:
        _say(f"Nothing is running ({run.state})")
        return EXIT_NO
    _say(run_state_text(find_run_state()))
    return EXIT_DONE


def _stop_supervisor(record: SupervisorRecord, at_once: bool) -> None:
    """Ask a supervisor to end its training, and wait for its own end."""

    def ends_after(number: int, seconds: float) -> bool:
        with suppress(ProcessLookupError):
            os.kill(record.pid, number)
        return wait_until(lambda: not lock_is_held(LOCK), seconds)

    if not at_once:
        _say(
            f"Stopping process {record.pid} and its training, after this step and its checkpoint: this may take some "
            "minutes (Ctrl+C, or stop --now, ends it at once) ..."
        )
        try:
            if ends_after(signal.SIGTERM, SAVE_PATIENCE + _END_PATIENCE):
                return
        except KeyboardInterrupt:
            _say("")
    _say(f"Ending process {record.pid} and its training at once; this takes up to half a minute ...")
    if not ends_after(signal.SIGINT, _END_PATIENCE):
        raise SocratesError(f"process {record.pid} has not ended after {_END_PATIENCE:g} s; look at {record.log}")


def _stop_left_over(record: SupervisorRecord, at_once: bool) -> None:
    """The same where the supervisor is gone."""
    _say(f"The supervisor is gone; stopping its training {'at once' if at_once else 'after its checkpoint'} ...")
    ranks = [] if at_once else find_ranks(record.mark)
    if ranks and record.asked is None:
        record = replace(record, asked=utc_time())
        write_record(record)
        ask_to_save(ranks)
    if ranks:
        with suppress(KeyboardInterrupt):
            wait_until(lambda: not marked(record.mark))
    end_marked(record.mark, grace=30)
    write_record(replace(record, state="stopped", ended=utc_time(), reason=f"{GONE}; its training was stopped"))


def _say(text: str) -> None:
    print(text, flush=True)  # at once, also into a pipe
