"""Supervisor: stays on the training machine, runs a training, and restarts it after a crash.

Covers: it outlives the ssh session that started it; there is one a folder; nothing of a dead attempt is left when the
next begins; every attempt is on record. It restarts at most three times, and only if the attempt got further than every
one before; not if it stopped cleanly or refused to go on.
Does not cover: the machine's own restart (start it again with --resume).
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from socrates.checkpoint import WEIGHTS_ONLY, checkpoint_step, is_finished, newest_complete
from socrates.config import RunConfig, load_config, load_deepspeed
from socrates.console import describe_exit
from socrates.errors import EXIT_CANNOT, SocratesError
from socrates.machine.process_tree import (
    SAVE_PATIENCE,
    adopt_orphans,
    descendants,
    end_descendants,
    find_ranks,
    free_port,
    own_id,
    reap_adopted,
    signal_ranks,
    wait_for_save,
)
from socrates.machine.run_state import Attempt, SupervisorRecord, read_end, utc_time, way_on, with_attempt, write_record
from socrates.telemetry.gpus import gpu_numbers
from socrates.telemetry.log import read_progress

_SCRIPT = Path(__file__).parents[2] / "scripts" / "train_full_dataset.py"


@dataclass(frozen=True)
class TrainingJob:
    """What is to be run.

    Attributes:
        command: the command line of an attempt; it is called with whether to go on from the newest checkpoint.
        environment: of the training, its secrets included; never printed.
        resume: whether the first attempt goes on from a checkpoint, too.
        weights_only: whether a checkpoint will do of which the weights alone are complete.
        pause: seconds before a restart, in which ports and GPU memory come free.
        patience: seconds that a training which is asked to stop has for its step and its checkpoint.
        grace: seconds between SIGTERM and SIGKILL, after that or instead.
    """

    config: str
    deepspeed: str
    log: str
    output_dir: str
    command: Callable[[bool], list[str]]
    environment: Mapping[str, str] = field(repr=False)
    resume: bool = False
    weights_only: bool = False
    pause: float = 5.0
    patience: float = SAVE_PATIENCE
    grace: float = 30.0


def make_training_job(
    config: str,
    deepspeed: str,
    log: str,
    environment: Mapping[str, str],
    resume: bool = False,
    weights_only: bool = False,
) -> TrainingJob:
    """A job for the training script, once everything that can be checked beforehand was.

    Args:
        config: the run config.
        deepspeed: DeepSpeed's.
        log: of the run.
        environment: of the training.
        resume: whether the first attempt goes on from a checkpoint.
        weights_only: whether a checkpoint will do of which the weights alone are complete.

    Raises:
        SocratesError: config or DeepSpeed file are wrong, or the data is not there.
    """
    run = load_config(config)
    load_deepspeed(deepspeed, run)
    if not run.train_file.is_file():
        raise SocratesError(
            f"{run.train_file}: no such data file; upload the data: tnr scp 0 data/socsci210_full/ "
            f"~/socrates-training/{run.dataset_path}/"
        )
    launch = [sys.executable, "-m", "deepspeed.launcher.runner", _launcher_devices(run, environment)]

    def command(resuming: bool) -> list[str]:
        script = [str(_SCRIPT), "--config", config, "--deepspeed", deepspeed, *([WEIGHTS_ONLY] if weights_only else [])]
        resumption = ["--resume-from-checkpoint", "auto"] if resuming else []
        return [*launch, f"--master_port={free_port()}", *script, *resumption]

    return TrainingJob(config, deepspeed, log, run.output_dir, command, environment, resume, weights_only)


def _launcher_devices(run: RunConfig, environment: Mapping[str, str]) -> str:
    """The launcher's option for the GPUs. With --num_gpus it would forget CUDA_VISIBLE_DEVICES and take the first."""
    wanted = run.training.num_processes
    numbers = gpu_numbers(environment, wanted)
    return f"--num_gpus={wanted}" if numbers is None else f"--include=localhost:{','.join(map(str, numbers))}"


class Supervisor:
    """Runs the attempts of one job, in the process that it was made in.

    SIGTERM ends the training after a checkpoint, however often it comes; SIGINT ends it at once.
    """

    def __init__(self, job: TrainingJob, log_offset: int, begun: Callable[[], None] = lambda: None) -> None:
        """``begun`` is called once it is on record that the run has begun; the log is standard output."""
        self._job, self._begun = job, begun
        self._stopping = self._at_once = False
        me = own_id()
        self._state = SupervisorRecord(
            state="running",
            pid=me.pid,
            start_ticks=me.start_ticks,
            boot_id=me.boot_id,
            started=utc_time(),
            config=job.config,
            deepspeed=job.deepspeed,
            log=job.log,
            log_offset=log_offset,
            output_dir=job.output_dir,
        )

    def run(self) -> None:
        """All attempts, to the end. Whatever happens, the record says how it ended."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        write_record(self._state)
        self._begun()
        state, reason = "failed", "the supervisor itself failed; its log says why"
        try:
            adopt_orphans()
            state, reason = self._attempts()
        except SocratesError as error:
            reason = str(error)
        except OSError as error:  # no process, no memory
            reason = f"the training could not be started: {error}"
        finally:
            self._say(f"{state}: {reason}")  # first: who sees the record at its end shows the end of the log
            self._record(replace(self._state, state=state, reason=reason, ended=utc_time()))

    def _attempts(self) -> tuple[str, str]:
        from_step, _ = newest_step(self._job.output_dir, self._job.weights_only)
        best, resume = from_step, self._job.resume
        while True:
            ended = self._attempt(from_step, resume)
            decision = decide_next(ended, best, self._state.restarts)
            if decision.next is Next.COMPLETE or not (self._stopping or decision.next is Next.RESTART):
                if decision.next is Next.STOPPED:
                    self._say(f"to go on: {way_on(self._state)}")
                return decision.next.value, decision.reason
            if not self._stopping:
                self._say(f"{decision.reason}; starting it again in {self._job.pause:g} s")
                self._sleep(self._job.pause)
            if self._stopping:
                saved = ", where its checkpoint is complete" if ended.saved_step == ended.reached_step > 0 else ""
                return "stopped", f"at step {ended.reached_step}, as it was asked to{saved}"
            from_step, best, resume = ended.saved_step, max(best, ended.reached_step), True
            self._record(replace(self._state, restarts=self._state.restarts + 1))

    def _attempt(self, from_step: int, resume: bool) -> Ended:
        """Start the training, wait for its end, and end what it leaves behind."""
        job = self._job
        before, offset = read_progress(job.output_dir), _size(job.log)
        command = job.command(resume)
        start = f"going on from step {from_step}" if from_step else "starting from the base model"
        self._say(f"attempt {len(self._state.attempts) + 1}: {start}: {shlex.join(command)}")
        # A process group of its own: it can be ended also when this process is gone.
        launcher = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=dict(job.environment), process_group=0)
        attempt = Attempt(started=utc_time(), from_step=from_step, pid=launcher.pid)
        self._record(replace(self._state, command=tuple(command), attempts=(*self._state.attempts, attempt)))
        while launcher.poll() is None and not self._stopping:
            time.sleep(0.2)
        if self._stopping and not self._at_once:
            self._wait_for_save(launcher)
        stuck = end_descendants(job.grace)
        if stuck:
            raise SocratesError(f"processes of the training that cannot be ended: {', '.join(map(str, stuck))}")
        status = launcher.wait()
        reap_adopted()
        progress = read_progress(job.output_dir)
        new = progress if progress and (not before or progress.started != before.started) else None
        done = new.step if new else 0
        saved, finished = newest_step(job.output_dir, job.weights_only)
        reached = max(from_step, done, saved)
        self._record(with_attempt(self._state, ended=utc_time(), exit_status=status, reached_step=reached))
        stopped = new.stopped if new else None
        return Ended(status, from_step, reached, saved, finished, read_end(job.log, offset), stopped)

    def _wait_for_save(self, launcher: subprocess.Popen[bytes]) -> None:
        """Let the ranks finish their step and save; where there is no rank, there is nothing to wait for."""
        ranks = find_ranks(descendants())
        if ranks:
            self._say(f"asked to stop: after this step and its checkpoint, at most {self._job.patience:g} s from now")
            self._record(with_attempt(self._state, asked=utc_time()))
            signal_ranks(ranks)
            wait_for_save(lambda: launcher.poll() is not None or self._at_once, self._say, self._job.patience)

    def _stop(self, number: int, frame: object) -> None:
        self._at_once = self._at_once or number == signal.SIGINT
        self._stopping = True

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < end:
            time.sleep(0.1)

    def _record(self, state: SupervisorRecord) -> None:
        self._state = state
        try:
            write_record(state)
        except SocratesError as error:  # the training matters more
            self._say(f"cannot write the record: {error}")

    def _say(self, text: str) -> None:
        with suppress(OSError):  # the log's disk is full
            print(f"=== {utc_time()} {text}", flush=True)


def newest_step(output_dir: str, weights_only: bool = False) -> tuple[int, bool]:
    """The step of the newest checkpoint to go on from (0 for none), and whether it is the last one of its run."""
    checkpoint, _ = newest_complete(output_dir, weights_only=weights_only)
    if checkpoint is None:
        return 0, False
    try:
        return checkpoint_step(checkpoint) or 0, is_finished(checkpoint)
    except (SocratesError, KeyError, TypeError):
        return checkpoint_step(checkpoint) or 0, False


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


MAX_RESTARTS = 3
_DEFECT = "error: this is a defect of the program"  # run_entry_point's words for an exception, which also exits with 2


class Next(Enum):
    """What comes after an attempt."""

    COMPLETE = "complete"
    STOPPED = "stopped"
    RESTART = "restart"
    FAILED = "failed"


@dataclass(frozen=True)
class Ended:
    """How an attempt ended.

    Attributes:
        exit_status: the launcher's; negative for a signal.
        from_step: the step of the checkpoint it went on from; 0 for none.
        reached_step: the last step that was done or saved.
        saved_step: the step of the newest complete checkpoint; 0 for none.
        finished: the run's last checkpoint is there and complete.
        output: the end of what it wrote.
        stopped: why it saved and ended by itself before its last step, where it says that it did.
    """

    exit_status: int
    from_step: int
    reached_step: int
    saved_step: int
    finished: bool
    output: str = ""
    stopped: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What to do, and why; the reason is for a person."""

    next: Next
    reason: str


def decide_next(ended: Ended, best: int, restarts: int) -> Outcome:
    """What comes after an attempt.

    Args:
        ended: the attempt.
        best: the furthest step of the attempts before; for the first, the step that it started from.
        restarts: how often it was started again already.
    """
    # DeepSpeed's launcher exits with 0 when its own child was killed: the checkpoint is the proof, not the status.
    if ended.finished and (ended.exit_status == 0 or ended.reached_step > ended.from_step):
        return Outcome(Next.COMPLETE, "the last checkpoint is there")
    if ended.stopped is not None and ended.saved_step >= ended.reached_step > ended.from_step:
        return Outcome(Next.STOPPED, f"at step {ended.reached_step}, where its checkpoint is complete: {ended.stopped}")
    refused = refusal(ended)
    if refused:
        return Outcome(Next.FAILED, f"the training refused to go on: {refused}")
    how = f"{describe_exit(ended.exit_status)} at step {ended.reached_step}"
    if ended.reached_step <= best and not restarts:
        return Outcome(Next.FAILED, f"{how}, before it had done a step: starting it again would not help")
    if ended.reached_step <= best:
        return Outcome(
            Next.FAILED,
            f"{how}, and step {best} was reached before: it does not get further, so it is not started again",
        )
    if restarts >= MAX_RESTARTS:
        return Outcome(Next.FAILED, f"{how}; it was started again {restarts} times already, which is the limit")
    return Outcome(Next.RESTART, how)


def refusal(ended: Ended) -> str | None:
    """The training's own message where it ended because it cannot go on (bad config, data, no disk space).

    An unexpected exception leaves with the same status, but says that it is a defect: that is a crash.
    """
    lines = [line for line in ended.output.splitlines() if line.startswith("error: ")]
    if ended.exit_status != EXIT_CANNOT or not lines or any(line.startswith(_DEFECT) for line in lines):
        return None
    return lines[0].removeprefix("error: ")
