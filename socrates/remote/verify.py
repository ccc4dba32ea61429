"""Verification of the infrastructure test: the guide's nine criteria, each decided by evidence, and the verdict on all.

Covers: met, not met, or not measured, never a guess. Anything unmet fails the test, what was not measured leaves it
undecided. What the machine knows comes in its report (`machine/evidence.py`); the checkpoints here are read in full.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from socrates.checkpoint import GUIDE_FILES, is_run_name
from socrates.errors import EXIT_CANNOT, EXIT_DONE, EXIT_NO, SocratesError
from socrates.remote.instance import Instance
from socrates.remote.local import LIGHT, OTHER, LocalCheckpoint, MonitorRecord, local_state, read_monitor
from socrates.remote.machine_report import ask_machine
from socrates.telemetry.machine_report import CheckpointEvidence, RunEvidence

PASS, FAIL, NOT_DECIDED = "PASS", "FAIL", "NOT DECIDED"
EXIT = {PASS: EXIT_DONE, FAIL: EXIT_NO, NOT_DECIDED: EXIT_CANNOT}
LEAST_UTILIZATION = 80.0  # percent
ADAPTER, OPTIMIZER = "adapter_model.safetensors", "optimizer.pt"
_MOMENTS = 4  # bytes a parameter in optimizer.pt: two, in bf16, whatever is trained in
_ROOM = 64 * 2**10  # bytes of a file besides its numbers; matters if the model is tiny
_ALIKE = 0.01
_CLOCKS = 5.0  # seconds by which two clocks and their rounding may differ
# What the launch scripts call a run's log.
_LOGS = {
    "config_test_run.json": "training_test.log",
    "config_500step_validation.json": "training_500step.log",
    "config_full_dataset.json": "training.log",
}


@dataclass(frozen=True)
class ExpectedRun:
    """What the config of the test says."""

    run: str
    log_name: str
    max_steps: int
    save_steps: int
    num_processes: int
    bytes_each: int  # of a parameter of the adapter

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that must have a checkpoint: every ``save_steps``, and the last."""
        return tuple(sorted({*range(self.save_steps, self.max_steps + 1, self.save_steps), self.max_steps}))


@dataclass(frozen=True)
class Evidence:
    """What the nine criteria are decided by; ``offset`` makes the machine's times ours."""

    config: ExpectedRun
    there: RunEvidence
    local: Mapping[int, LocalCheckpoint] = field(default_factory=dict)
    monitor: MonitorRecord = field(default_factory=MonitorRecord)
    offset: float = 0.0

    @property
    def remote(self) -> dict[int, CheckpointEvidence]:
        """The machine's checkpoints by step."""
        return {checkpoint.step: checkpoint for checkpoint in self.there.checkpoints}


@dataclass(frozen=True)
class Criterion:
    """One line of the guide's checklist.

    Attributes:
        met: None if it was not measured; then ``why_not`` says why.
        evidence: what decided it, a line each.
    """

    text: str
    met: bool | None
    evidence: tuple[str, ...] = ()
    why_not: str = ""


def expected_run(name: str, config: Any) -> ExpectedRun:
    """What a run config (`config.RunConfig`) says of the test; ``name``: of its file.

    Raises:
        SocratesError: it has no last step, or its output folder is not the monitor's.
    """
    run, training, path = Path(config.output_dir).name, config.training, Path(name)
    if training.max_steps is None or not is_run_name(run):
        raise SocratesError(f'{name}: needs "training.max_steps", and "output_dir" as models/NAME')
    log = _LOGS.get(path.name, f"training_{path.stem}.log")
    width = 2 if training.bf16 else 4
    return ExpectedRun(run, log, training.max_steps, training.save_steps, training.num_processes, width)


def gather_evidence(instance: Instance, config: ExpectedRun, now: float) -> Evidence:
    """The evidence from the machine and from here; ``now``: this computer's time.

    Raises:
        Unreachable: no connection.
        SocratesError: the training still runs or was never started there, or something could not be read.
    """
    report = ask_machine(instance, config.run, config.log_name)
    found = report.evidence
    if found is None:
        how_far = "" if report.step is None else f" (step {report.step} of {config.max_steps})"
        again = "run this again when it has ended; nothing was recorded"
        raise SocratesError(f"{config.run} is still running{how_far}: {again}")
    if not found.found:
        where = f"{config.run} was never started on instance {instance.id}"
        raise SocratesError(f"{where}: there is nothing to judge; nothing was recorded")
    manifests = {checkpoint.step: checkpoint.manifest_sha256 for checkpoint in found.checkpoints}
    folders = {step: instance.root / "models" / config.run / f"checkpoint-{step}" for step in config.steps}
    local = {step: local_state(folder, manifests.get(step)) for step, folder in folders.items()}
    return Evidence(config, found, local, read_monitor(instance.root, instance.id), now - report.time)


def check_criteria(e: Evidence) -> list[Criterion]:
    """The nine criteria, in the guide's words and order."""
    return [
        _completed(e),
        _saved(e),
        _downloaded(e),
        _sizes(e),
        _loss_decreased(e),
        _gpus_used(e),
        _memory_sufficed(e),
        _contents_listed(e),
        _monitor_ran(e),
    ]


def verdict(criteria: Sequence[Criterion]) -> str:
    """FAIL with anything unmet, NOT DECIDED with anything not measured, else PASS."""
    if any(criterion.met is False for criterion in criteria):
        return FAIL
    return NOT_DECIDED if any(criterion.met is None for criterion in criteria) else PASS


def checklist(criteria: Sequence[Criterion]) -> str:
    """The guide's checklist with the evidence under each line, and the verdict."""
    lines = []
    for criterion in criteria:
        why = f" (not measured: {criterion.why_not})" if criterion.met is None else ""
        lines.append(f"- [{'x' if criterion.met else ' '}] {criterion.text}{why}")
        lines += [f"      {line}" for line in criterion.evidence]
    unmet = [criterion.text for criterion in criteria if criterion.met is False]
    unknown = sum(criterion.met is None for criterion in criteria)
    tail = {
        PASS: PASS,
        FAIL: f"{FAIL}: {len(unmet)} of {len(criteria)} not met: {'; '.join(unmet)}",
        NOT_DECIDED: f"{NOT_DECIDED}: {unknown} {'criterion' if unknown == 1 else 'criteria'} not measured",
    }
    return "\n".join([*lines, "", tail[verdict(criteria)]])


def record(criteria: Sequence[Criterion], **circumstances: Any) -> dict[str, Any]:
    """What `verification.json` says."""
    found = [
        {"text": c.text, "met": c.met, "evidence": [*c.evidence, *([f"not measured: {c.why_not}"] * (c.met is None))]}
        for c in criteria
    ]
    return {"verdict": verdict(criteria), "criteria": found, **circumstances}


def _completed(e: Evidence) -> Criterion:
    """The last checkpoint's trainer state, the supervisor's record, and no error in the log."""
    text, goal, t = f"Training completed {e.config.max_steps} steps without errors", e.config.max_steps, e.there
    last = max(e.remote, default=None)
    good = t.global_step == t.max_steps == goal
    lines = [f"trainer_state.json of checkpoint-{last}: step {_or(t.global_step)} of {_or(t.max_steps)}"]
    if last is None:
        lines = ["no checkpoint there"]
    elif t.max_steps != goal:
        lines.append(f"the config says {goal} steps")
    if t.supervisor is None:
        lines.append("no supervisor's record of this run: started by hand, or another run was started since")
    else:
        good = good and t.supervisor == "complete" and not t.restarts
        state = "running, but it is gone" if t.supervisor == "running" else t.supervisor
        lines.append(f"supervisor: {state}, {t.restarts or 'no restart'}")
        if t.from_step:
            lines.append(f"it went on from step {t.from_step}")
    if not t.log:
        return Criterion(text, good and None, (*lines, f"{t.log_name}: no such log there"), "no log")
    return Criterion(text, good and t.error is None, (*lines, f"{t.log_name}: {t.error or 'no error'}"))


def _saved(e: Evidence) -> Criterion:
    """Every expected checkpoint is there, and every byte of it is its manifest's."""
    damage = {step: e.remote[step].damage if step in e.remote else "not there" for step in e.config.steps}
    bad = [f"checkpoint-{step}: {wrong}" for step, wrong in damage.items() if wrong]
    good = [step for step, wrong in damage.items() if not wrong]
    lines = [f"{_names(good)}: every file's SHA-256 is its manifest's"] if good else []
    return Criterion(f"All {len(e.config.steps)} checkpoints saved on remote", not bad, (*lines, *bad))


def _downloaded(e: Evidence) -> Criterion:
    """Every expected checkpoint is here, intact, and the one that is there."""
    good, light, bad = [], [], []
    for step in e.config.steps:
        here = e.local.get(step)
        if here is None or here.kind == "absent":
            bad.append(f"checkpoint-{step}: not here")
        elif here.kind == OTHER:
            bad.append(f"checkpoint-{step}: intact, but another one than there")
        elif not here.intact:
            bad.append(f"checkpoint-{step}: {here.reason or 'damaged'}")
        elif step not in e.remote or e.remote[step].manifest_sha256 is None:
            bad.append(f"checkpoint-{step}: here, but there is no manifest there to compare with")
        else:
            (light if here.kind == LIGHT else good).append(step)
    lines = [f"{_names(good)}: every byte verified, the same manifest as there"] if good else []
    lines += [f"{_names(light)}: the guide's files only (--light), verified"] if light else []
    return Criterion(f"All {len(e.config.steps)} checkpoints downloaded locally", not bad, (*lines, *bad))


def _sizes(e: Evidence) -> Criterion:
    """All checkpoints are alike, and `optimizer.pt` holds two bf16 moments for each parameter of the adapter."""
    text = "Each checkpoint ~390MB (adapter + optimizer)"
    sizes = {step: e.remote[step].sizes if step in e.remote else {} for step in e.config.steps}
    lost = [step for step, found in sizes.items() if not {ADAPTER, OPTIMIZER} <= found.keys()]
    if lost:
        return Criterion(text, False, (f"{_names(lost)}: adapter or {OPTIMIZER} is not there",))
    pairs = {f"checkpoint-{step}": (found[ADAPTER], found[OPTIMIZER]) for step, found in sizes.items()}
    totals = [sum(pair) for pair in pairs.values()]
    alike = max(totals) - min(totals) <= _ALIKE * max(totals)
    shown = {"each": next(iter(pairs.values()))} if alike else pairs
    lines = [f"{name}: adapter {_mb(a)} + {OPTIMIZER} {_mb(o)} = {_mb(a + o)}" for name, (a, o) in shown.items()]
    lines.append("the guide's ~390MB is that of Qwen2.5-14B with rank 16; MB as `ls -lh` counts them")
    if not alike:
        lines.append("they differ by more than 1%")
    ratio = _MOMENTS / e.config.bytes_each
    wrong = [
        f"{name}: {OPTIMIZER} is not about {ratio:g} times the adapter, as two bf16 moments are ({o / a:.2f})"
        for name, (a, o) in shown.items()
        if not 0.9 * ratio * (a - _ROOM) <= o <= 1.15 * ratio * a + _ROOM
    ]
    return Criterion(text, alike and not wrong, (*lines, *wrong))


def _loss_decreased(e: Evidence) -> Criterion:
    """The mean of the last two logged losses is below that of the first two."""
    text, losses = "Loss decreased over training", e.there.losses
    broken = [step for step, loss in losses if loss is None]
    if broken:
        return Criterion(text, False, (f"a logged loss is no number: step {broken[0]}",))
    if len(losses) < 2:
        return Criterion(text, None, (), f"{len(losses)} logged losses in the last checkpoint there")
    lines = [f"Step {step}: loss={loss:.3f}" for step, loss in losses]
    if len(lines) > 8:
        lines = [*lines[:3], "...", *lines[-3:]]
    values = [loss for _, loss in losses if loss is not None]
    first, last, how = values[0], values[-1], "first to last"
    if len(values) >= 4:
        first, last, how = fmean(values[:2]), fmean(values[-2:]), "mean of the first two to mean of the last two"
    return Criterion(text, last < first, (*lines, f"{how}: {first:.3f} -> {last:.3f}"))


def _gpus_used(e: Evidence) -> Criterion:
    """Each GPU's mean utilization during training, without each start's first line (loading)."""
    text, gpus = f"GPU utilization >{LEAST_UTILIZATION:.0f}% during training", e.there.gpus
    wanted = e.config.num_processes
    if not gpus:
        why = "too few lines are logged: the first one includes the loading"
        if not e.there.sampled:
            why = "no samples were logged" if e.there.has_gpu else "no GPU"
        return Criterion(text, None, (), why)
    lines = [f"GPU {gpu.index}: mean {gpu.mean:.1f}% over {gpu.lines} lines of training_log.jsonl" for gpu in gpus]
    if len(gpus) < wanted:
        lines.append(f"{len(gpus)} GPUs were used, the config has {wanted} processes")
    enough = len(gpus) >= wanted and all(gpu.mean > LEAST_UTILIZATION for gpu in gpus)
    return Criterion(text, enough, tuple(lines))


def _memory_sufficed(e: Evidence) -> Criterion:
    """No out-of-memory error in the log."""
    text, t = "No CUDA out-of-memory errors", e.there
    if not t.log:
        return Criterion(text, None, (), f"no {t.log_name} there")
    if t.out_of_memory:
        return Criterion(text, False, (f"{t.log_name}: {t.out_of_memory}",))
    if not t.has_gpu:
        return Criterion(text, None, (), "no GPU")
    return Criterion(text, True, (f"{t.log_name}: none",))


def _contents_listed(e: Evidence) -> Criterion:
    """The guide's five files are in every checkpoint, on both sides."""
    lines, complete = [", ".join(GUIDE_FILES)], True
    there = {step: set(found.sizes) for step, found in e.remote.items()}
    here = {step: {path.name for path in state.path.glob("*")} for step, state in e.local.items()}
    for place, files in (("there", there), ("here", here)):
        lost = {step: [name for name in GUIDE_FILES if name not in files.get(step, ())] for step in e.config.steps}
        good = sum(not names for names in lost.values())
        lines.append(f"{place}: the guide's {len(GUIDE_FILES)} files in {good} of {len(lost)}")
        bad = {step: names for step, names in lost.items() if names}
        complete = complete and not bad
        for step, names in bad.items():
            lines.append(f"{place}, checkpoint-{step}: " + (f"no {', '.join(names)}" if files.get(step) else "nothing"))
    return Criterion("Can list checkpoint contents", complete, tuple(lines))


def _monitor_ran(e: Evidence) -> Criterion:
    """The monitor's record: it looked after the start, saw every checkpoint, and no problem lasts."""
    text, m, start, steps = "Checkpoint monitor ran without errors", e.monitor, e.there.started, e.config.steps
    if not m.found:
        return Criterion(text, None, (), "no monitor's record here")
    lines = [
        f"{_or(m.rounds)} rounds, {sum((e.config.run, s) in m.downloaded for s in steps)} downloads of this run",
        *(f"unsolved: {problem}" for problem in m.unsolved),
    ]
    if m.last_round is None or (start is not None and m.last_round < start + e.offset - _CLOCKS):
        return Criterion(text, False, (*lines, "it made no round after the training began"))
    if start is None:
        return Criterion(text, False if m.unsolved else None, tuple(lines), "the training's start is unknown")
    unseen = [step for step in steps if not _seen(e, step, m.last_round)]
    if unseen:
        lines.append(f"{_names(unseen)}: neither downloaded by it nor found intact")
    return Criterion(text, not m.unsolved and not unseen, tuple(lines))


def _seen(e: Evidence, step: int, last_round: float) -> bool:
    """Whether the monitor downloaded a checkpoint, or found it intact in a round after it was made."""
    if (e.config.run, step) in e.monitor.downloaded:
        return True
    created = e.remote[step].created if step in e.remote else None
    intact = step in e.local and e.local[step].intact
    return intact and created is not None and last_round >= created + e.offset - _CLOCKS


def _names(steps: Sequence[int]) -> str:
    """checkpoint-10, -20, -30; the first and the last of many."""
    if len(steps) > 8:
        return f"checkpoint-{steps[0]} ... -{steps[-1]} ({len(steps)})"
    return f"checkpoint-{', -'.join(map(str, steps))}"


def _mb(size: int) -> str:
    return f"{size / 2**20:.0f}MB" if size >= 10 * 2**20 else f"{size / 2**20:.2f}MB"


def _or(value: object | None) -> str:
    return "unknown" if value is None else str(value)
