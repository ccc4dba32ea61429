"""Supervisor: stays on the training machine, runs a training, and restarts it after a crash.

Covers: nothing of a dead attempt is left when the next begins; every attempt is on record. It restarts at most three
times, and only if the attempt got further than every one before; not if it stopped cleanly or refused to go on.
Does not cover: one a folder, and outliving who started it (`background.py`); the machine's own restart.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from socrates.checkpoint import WEIGHTS_ONLY, checkpoint_step, is_finished, newest_complete
from socrates.config import load_training
from socrates.console import describe_exit
from socrates.errors import EXIT_CANNOT, SocratesError
from socrates.files import write_json
from socrates.machine.process_tree import MARK, end_marked, free_port, marked, wait_until
from socrates.machine.run_state import STATE, Attempt, SupervisorRecord, find_trainings, read_end, utc_time
from socrates.telemetry.gpus import gpu_numbers
from socrates.telemetry.log import read_progress

MAX_RESTARTS = 3
SAVE_PATIENCE = 600.0  # seconds for the end of a step and its checkpoint
_SCRIPT = Path(__file__).parents[2] / "scripts" / "train_full_dataset.py"
_DEFECT = "error: this is a defect of the program"  # run_entry_point's words for an exception, which also exits with 2


@dataclass(frozen=True)
class TrainingJob:
    """What is to be run, in the environment of the process that runs it."""

    config: str
    deepspeed: str
    log: str
    output_dir: str
    command: Callable[[], list[str]]  # of an attempt; it goes on from the newest checkpoint, where there is one
    weights_only: bool = False  # whether a checkpoint will do of which the weights alone are complete
    pause: float = 5.0  # seconds before a restart, in which ports and GPU memory come free
    grace: float = 30.0  # seconds between SIGTERM and SIGKILL for what is left of an attempt


def make_training_job(config: str, deepspeed: str, log: str, weights_only: bool = False) -> TrainingJob:
    """A job for the training script, once everything that can be checked beforehand was; for the rest see there.

    Raises:
        SocratesError: config or DeepSpeed file are wrong, or the data is not there.
    """
    run, _ = load_training(config, deepspeed)
    if not run.train_file.is_file():
        raise SocratesError(
            f"{run.train_file}: no such data file; upload the data: tnr scp 0 data/socsci210_full/ "
            f"~/socrates-training/{run.dataset_path}/"
        )
    # With --num_gpus the launcher would forget CUDA_VISIBLE_DEVICES and take the first GPUs.
    wanted = run.training.num_processes
    numbers = gpu_numbers(os.environ, wanted)
    devices = f"--num_gpus={wanted}" if numbers is None else f"--include=localhost:{','.join(map(str, numbers))}"
    script = [str(_SCRIPT), "--config", config, "--deepspeed", deepspeed, *([WEIGHTS_ONLY] if weights_only else [])]

    def command() -> list[str]:
        launcher = [sys.executable, "-m", "deepspeed.launcher.runner", devices, f"--master_port={free_port()}"]
        return [*launcher, *script]

    return TrainingJob(config, deepspeed, log, run.output_dir, command, weights_only)


def decide_next(attempt: Attempt, best: int, restarts: int) -> tuple[str, str]:
    """What comes after an attempt: "complete", "stopped", "failed" or "restart", and why, for a person.

    Args:
        attempt: it has ended.
        best: the furthest step of the attempts before; for the first, the step that it started from.
        restarts: how often it was started again already.
    """
    reached = attempt.reached_step or 0
    further = reached > attempt.from_step
    # DeepSpeed's launcher exits with 0 when its own child was killed: the checkpoint is the proof, not the status.
    if attempt.finished and (attempt.exit_status == 0 or further):
        return "complete", "the last checkpoint is there"
    if attempt.stopped is not None and further and attempt.saved_step >= reached:
        return "stopped", f"at step {reached}, where its checkpoint is complete: {attempt.stopped}"
    if attempt.refused:
        return "failed", f"the training refused to go on: {attempt.refused}"
    how = f"{describe_exit(attempt.exit_status or 0)} at step {reached}"
    if reached <= best:
        return "failed", f"{how}, no further than before (step {best}), so that it is not started again"
    if restarts >= MAX_RESTARTS:
        return "failed", f"{how}; it was started again {restarts} times already, which is the limit"
    return "restart", how


def refusal(exit_status: int, output: str) -> str | None:
    """A training's own message where it ended because it cannot go on (bad config, data, no disk space).

    An unexpected exception leaves with the same status, but says that it is a defect: that is a crash.
    """
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    if exit_status != EXIT_CANNOT or not lines or any(line.startswith(_DEFECT) for line in lines):
        return None
    return lines[0].removeprefix("error: ")


class Supervisor:
    """Runs the attempts of one job, in the process that it was made in; the job's log is standard output.

    SIGTERM ends the training after a checkpoint, however often it comes; SIGINT ends it at once.
    """

    def __init__(self, job: TrainingJob) -> None:
        self._job = job
        self._stopping = self._at_once = False
        self._record = SupervisorRecord(
            state="running",
            pid=os.getpid(),
            started=utc_time(),
            config=job.config,
            deepspeed=job.deepspeed,
            log=job.log,
            log_offset=_log_size(),
            output_dir=job.output_dir,
        )

    def run(self) -> None:
        """All attempts, to the end. Whatever happens, the record says how it ended."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        write_json(STATE, asdict(self._record))
        state, reason = "failed", "the supervisor itself failed; its log says why"
        try:
            state, reason = self._attempts()
        except (SocratesError, OSError) as error:  # no process, no memory
            reason = f"the training could not be started or ended: {error}"
        finally:
            self._say(f"{state}: {reason}")  # first: who sees the record at its end shows the end of the log
            self._note(state=state, reason=reason, ended=utc_time())

    def _attempts(self) -> tuple[str, str]:
        from_step, _ = _newest_step(self._job)
        best = from_step
        while True:
            ended = self._attempt(from_step)
            state, reason = decide_next(ended, best, self._record.restarts)
            if state == "restart" and not self._stopping:
                self._say(f"{reason}; starting it again in {self._job.pause:g} s")
                wait_until(lambda: self._stopping, self._job.pause)
            if self._stopping and state != "complete":
                saved = f"step {ended.saved_step}" if ended.saved_step else "none"
                reason = f"at step {ended.reached_step}, as it was asked to; newest complete checkpoint: {saved}"
                return "stopped", reason
            if state != "restart":
                return state, reason
            from_step, best = ended.saved_step, max(best, ended.reached_step or 0)
            self._note(restarts=self._record.restarts + 1)

    def _attempt(self, from_step: int) -> Attempt:
        """Start the training, wait for its end, and end what it leaves behind."""
        job, earlier = self._job, self._record.attempts
        before, offset = read_progress(job.output_dir), _log_size()
        command = job.command()
        start = f"going on from step {from_step}" if from_step else "starting from the base model"
        self._say(f"attempt {len(earlier) + 1}: {start}: {shlex.join(command)}")
        environment = {**os.environ, MARK: self._record.mark}
        launcher = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment)
        attempt = Attempt(started=utc_time(), from_step=from_step)
        self._note(attempts=(*earlier, attempt))
        while launcher.poll() is None and not self._stopping:
            time.sleep(0.2)
        if self._stopping and not self._at_once:
            self._wait_for_save(launcher)
        end_marked(self._record.mark, job.grace)
        status, progress = launcher.wait(), read_progress(job.output_dir)
        new = progress if progress and (not before or progress.started != before.started) else None
        saved, finished = _newest_step(job)
        attempt = replace(
            attempt,
            exit_status=status,
            reached_step=max(from_step, new.step if new else 0, saved),
            saved_step=saved,
            finished=finished,
            stopped=new.stopped if new else None,
            refused=refusal(status, read_end(job.log, offset)),
        )
        self._note(attempts=(*earlier, attempt))
        return attempt

    def _wait_for_save(self, launcher: subprocess.Popen[bytes]) -> None:
        """Let the training finish its step and save; one that has not begun, or still loads, ends at once.

        The first rank is asked, and all of them stop after the same step. The launcher, told to end, would kill them
        after 30 s, and a step with its checkpoint may take longer.
        """
        folder = Path(self._job.output_dir)
        holder = find_trainings(folder).get(folder, "")
        for process in marked(self._record.mark):
            if holder.startswith(f"process {process.pid} "):
                self._say(f"asked to stop: after this step and its checkpoint, at most {SAVE_PATIENCE:g} s from now")
                with suppress(psutil.Error):
                    process.terminate()
                wait_until(lambda: launcher.poll() is not None or self._at_once, SAVE_PATIENCE)

    def _stop(self, number: int, frame: object) -> None:
        self._at_once = self._at_once or number == signal.SIGINT
        self._stopping = True

    def _note(self, **changes: Any) -> None:
        self._record = replace(self._record, **changes)
        try:
            write_json(STATE, asdict(self._record))
        except SocratesError as error:  # the training matters more
            self._say(f"cannot write the record: {error}")

    def _say(self, text: str) -> None:
        with suppress(OSError):  # the log's disk is full
            print(f"=== {utc_time()} {text}", flush=True)


def _newest_step(job: TrainingJob) -> tuple[int, bool]:
    """The step of the newest checkpoint to go on from (0 for none), and whether it is the last one of its run."""
    checkpoint, _ = newest_complete(job.output_dir, weights_only=job.weights_only)
    return (checkpoint_step(checkpoint) or 0, is_finished(checkpoint)) if checkpoint else (0, False)


def _log_size() -> int:
    return os.fstat(sys.stdout.fileno()).st_size
