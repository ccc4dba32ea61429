"""The machine report: how a training machine stands, as it is told to the laptop.

Covers: `machine/status.py` makes it there, as one line of JSON; `remote/machine_report.py` reads it here. Both have
this file in the same version, or the schema number differs. Times are seconds since 1970 by the machine's clock, money
US dollars, None is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from socrates.telemetry.gpus import GpuSample

SCHEMA = 2  # another one for every change of what is below
RUNNING, COMPLETE, WRONG, UNKNOWN = "running", "complete", "wrong", "unknown"


@dataclass(frozen=True)
class CheckpointEvidence:
    """A checkpoint of the run that is verified, every byte of it read.

    Attributes:
        damage: the first thing wrong with it; None if every byte is its manifest's.
        manifest_sha256: of the manifest's bytes.
        created: when its manifest was written.
        sizes: file -> bytes, of what the manifest lists.
    """

    step: int
    damage: str | None
    manifest_sha256: str | None
    created: float | None
    sizes: dict[str, int]


@dataclass(frozen=True)
class RunEvidence:
    """What the infrastructure test is judged by, of its last start.

    Attributes:
        found: whether the run was ever started here.
        supervisor: the supervisor's last word: complete, failed, ...; None: started without one.
        started: when it began.
        global_step, max_steps, losses: of the newest checkpoint's trainer state; a loss that is no number is None.
        log: the text log was found.
        error, out_of_memory: its first line that tells of an error, of a GPU's memory that was full.
        gpus: of each, mean utilization in percent over so many lines of the log, those of the loading left out.
        has_gpu: its log has samples of one.
    """

    found: bool
    log_name: str
    log: bool
    error: str | None
    out_of_memory: str | None
    supervisor: str | None
    restarts: int
    started: float | None
    global_step: int | None
    max_steps: int | None
    losses: tuple[tuple[int, float | None], ...]
    gpus: tuple[tuple[int, float, int], ...]
    has_gpu: bool
    checkpoints: tuple[CheckpointEvidence, ...]


@dataclass(frozen=True)
class MachineReport:
    """How the machine stands, and its run: the one that trains, else the one that was touched last.

    Attributes:
        verdict: RUNNING, COMPLETE, WRONG or UNKNOWN; ``state`` the same in words.
        problem: what is wrong, a line each; None if nothing is.
        active: processes train now.
        config, deepspeed: the files that the run was started with, where that is on record.
        eval_loss: on the evaluation rows, the last that was measured.
        spent_usd: of all attempts, by the training's own count, and since its end for the idle machine.
        expected_usd: spent at the run's end, while it runs.
        disk_free, disk_total: bytes.
        checkpoints: run -> steps of its complete checkpoints.
        log: the end of the run's text log.
    """

    schema: int
    time: float
    verdict: str = UNKNOWN
    state: str = "nothing was ever started"
    problem: str | None = field(default=None, metadata={"lines": 8})
    active: bool = False
    run: str | None = None
    config: str | None = None
    deepspeed: str | None = None
    step: int | None = None
    max_steps: int | None = None
    started: float | None = None
    ended: float | None = None
    seconds_per_step: float | None = None
    seconds_left: float | None = None
    loss: float | None = None
    eval_loss: float | None = None
    tokens_per_second: float | None = None
    price_per_hour: float | None = None
    spent_usd: float | None = None
    expected_usd: float | None = None
    gpus: tuple[GpuSample, ...] = ()
    disk_free: int = 0
    disk_total: int = 0
    checkpoints: dict[str, tuple[int, ...]] = field(default_factory=dict)
    log_name: str | None = None
    log: tuple[str, ...] = ()
    evidence: RunEvidence | None = None
