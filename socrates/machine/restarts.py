"""Whether a training that has ended is started again.

Covers: it is, at most three times, if it got further than every attempt before; not if it stopped cleanly or refused to
go on, and not if it dies where it died before. Pure: from numbers to a decision with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from socrates.durations import describe_exit
from socrates.errors import EXIT_CANNOT

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
class Decision:
    """What to do, and why; the reason is for a person."""

    next: Next
    reason: str


def decide(ended: Ended, best: int, restarts: int) -> Decision:
    """What comes after an attempt.

    Args:
        ended: the attempt.
        best: the furthest step of the attempts before; for the first, the step that it started from.
        restarts: how often it was started again already.
    """
    # DeepSpeed's launcher exits with 0 when its own child was killed: the checkpoint is the proof, not the status.
    if ended.finished and (ended.exit_status == 0 or ended.reached_step > ended.from_step):
        return Decision(Next.COMPLETE, "the last checkpoint is there")
    if ended.stopped is not None and ended.saved_step >= ended.reached_step > ended.from_step:
        return Decision(
            Next.STOPPED, f"at step {ended.reached_step}, where its checkpoint is complete: {ended.stopped}"
        )
    refused = refusal(ended)
    if refused:
        return Decision(Next.FAILED, f"the training refused to go on: {refused}")
    how = f"{describe_exit(ended.exit_status)} at step {ended.reached_step}"
    if ended.reached_step <= best and not restarts:
        return Decision(Next.FAILED, f"{how}, before it had done a step: starting it again would not help")
    if ended.reached_step <= best:
        return Decision(
            Next.FAILED,
            f"{how}, and step {best} was reached before: it does not get further, so it is not started again",
        )
    if restarts >= MAX_RESTARTS:
        return Decision(Next.FAILED, f"{how}; it was started again {restarts} times already, which is the limit")
    return Decision(Next.RESTART, how)


def refusal(ended: Ended) -> str | None:
    """The training's own message where it ended because it cannot go on (bad config, data, no disk space).

    An unexpected exception leaves with the same status, but says that it is a defect: that is a crash.
    """
    lines = [line for line in ended.output.splitlines() if line.startswith("error: ")]
    if ended.exit_status != EXIT_CANNOT or not lines or any(line.startswith(_DEFECT) for line in lines):
        return None
    return lines[0].removeprefix("error: ")
