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
from pathlib import Path
from typing import IO

from socrates.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_NO, SocratesError
from socrates.files import cannot_write, lock_is_held, take_lock
from socrates.machine.process_tree import end_marked, marked, wait_until
from socrates.machine.run_state import (
    LOCK,
    RUN_FOLDER,
    SupervisorRecord,
    find_run_state,
    find_trainings,
    read_end,
    read_record,
    run_state_text,
    utc_time,
)
from socrates.machine.supervisor import SAVE_PATIENCE, TrainingJob

_START_PATIENCE = 600.0  # seconds for a supervisor to read its config on a busy machine
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
        RUN_FOLDER.mkdir(mode=0o700, exist_ok=True)
        remedy = "\n  what it does: python scripts/supervise.py state\n  to end it:    python scripts/supervise.py stop"
        lock = take_lock(LOCK, "a training is running here already", remedy)
        log = Path(job.log).open("ab")  # noqa: SIM115 - closed below, like the lock
    except OSError as error:
        raise cannot_write(Path(error.filename or LOCK), error) from error
    with lock, log:
        _refuse_beside(find_trainings(Path(job.output_dir)))
        record = read_record()
        if record and record.state == "running":  # its supervisor was killed, and its first rank is dead, too
            end_marked(record.mark, job.grace)
        pid = _start_supervisor(command, lock, log)
    try:
        print(f"Training started in the background: process {pid}, log {job.log}")
        return _watch(job.log, begun, seconds)
    except KeyboardInterrupt:
        print()
        print("No longer watching: the training goes on. To end it: python scripts/supervise.py stop", file=sys.stderr)
        return EXIT_INTERRUPTED


def _start_supervisor(command: list[str], lock: IO[bytes], log: IO[bytes]) -> int:
    """Its process id, once that is on record. It holds the lock on, and nothing else of this process."""
    offset = log.tell()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=[lock.fileno()]
    )
    with suppress(OSError):  # a full disk; who holds it is said for convenience
        lock.truncate(0)
        lock.write(f"process {process.pid} since {utc_time()}\n".encode())

    def is_recorded() -> bool:
        record = read_record()
        return record is not None and record.pid == process.pid

    wait_until(lambda: is_recorded() or process.poll() is not None, _START_PATIENCE)
    if not is_recorded():
        raise SocratesError(f"the supervisor did not start:\n{read_end(log.name, offset)}its log: {log.name}")
    return process.pid


def _watch(log: str, begun: float, seconds: float) -> int:
    deadline = time.monotonic() + seconds
    while (run := find_run_state()).supervised:
        progress = run.progress
        if progress and progress.time > begun and progress.step > progress.started_step:
            print(f"Training runs: step {progress.step} of {progress.max_steps} is done")
            return EXIT_DONE
        if time.monotonic() >= deadline:
            print(f"Still starting after {seconds:g} s: no step is done yet; follow it with: tail -f {log}")
            return EXIT_DONE
        time.sleep(0.2)
    if run.state in ("complete", "stopped"):
        print(f"Training {run_state_text(run)}")
    else:
        print(run_state_text(run), f"error: the training died: {run.reason}", sep="\n", file=sys.stderr, flush=True)
    return EXIT_DONE if run.state == "complete" else EXIT_NO


def stop(at_once: bool) -> int:
    """End the training that the supervisor of this folder runs, and wait until it is over.

    It first finishes its step and saves a checkpoint; Ctrl+C meanwhile ends it at once.

    Args:
        at_once: do not wait for a checkpoint.

    Returns:
        0 when it has ended; 1 where none was running.

    Raises:
        SocratesError: it does not end, or no supervisor watches the training that runs.
    """
    run = find_run_state()
    if run.supervised and run.record:
        _stop_supervisor(run.record, at_once)
        print(run_state_text(find_run_state()))
        return EXIT_DONE
    _refuse_beside(run.unsupervised)
    if run.record and run.record.state == "running" and marked(run.record.mark):
        print("Supervisor and first rank are gone; ending at once what they left ...")
        end_marked(run.record.mark, grace=5)
        return EXIT_DONE
    print(f"Nothing is running ({run.state})")
    return EXIT_NO


def _refuse_beside(trainings: dict[Path, str]) -> None:
    if trainings:
        folder, holder = next(iter(trainings.items()))
        raise SocratesError(
            f"a training that no supervisor watches is running here already: {holder}, into {folder}; wait for it, or "
            f"end it after a checkpoint: kill {holder.removeprefix('process ').partition(' ')[0]}"
        )


def _stop_supervisor(record: SupervisorRecord, at_once: bool) -> None:
    """Ask a supervisor to end its training, and wait for its own end."""

    def ends_after(number: int, seconds: float) -> bool:
        with suppress(ProcessLookupError):
            os.kill(record.pid, number)
        return wait_until(lambda: not lock_is_held(LOCK), seconds)

    if not at_once:
        print(
            f"Stopping process {record.pid} and its training, after this step and its checkpoint: this may take some "
            "minutes (Ctrl+C, or stop --now, ends it at once) ..."
        )
        try:
            if ends_after(signal.SIGTERM, SAVE_PATIENCE + _END_PATIENCE):
                return
        except KeyboardInterrupt:
            print()
    print(f"Ending process {record.pid} and its training at once; this takes up to half a minute ...")
    if not ends_after(signal.SIGINT, _END_PATIENCE):
        raise SocratesError(f"process {record.pid} has not ended after {_END_PATIENCE:g} s; look at {record.log}")
