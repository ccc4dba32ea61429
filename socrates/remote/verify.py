"""Verification of the infrastructure test: the guide's nine criteria, each decided by evidence, and the verdict on all.

Covers: met, not met, or not measured, never a guess. Anything unmet fails the test, what was not measured leaves it
undecided. What the machine knows comes in its report (`machine/evidence.py`); the checkpoints here are read in full.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from socrates.checkpoint import GUIDE_FILES, is_run_name
from socrates.console import count
from socrates.errors import EXIT_CANNOT, EXIT_DONE, EXIT_NO, SocratesError
from socrates.remote.instance import Instance
from socrates.remote.local import ABSENT, OTHER, LocalCheckpoint, MonitorRecord, local_state, read_monitor
from socrates.remote.machine_report import ask_machine
from socrates.remote.status import shorten
from socrates.telemetry.machine_report import CheckpointEvidence, RunEvidence

PASS, FAIL, NOT_DECIDED = "PASS", "FAIL", "NOT DECIDED"
EXIT = {PASS: EXIT_DONE, FAIL: EXIT_NO, NOT_DECIDED: EXIT_CANNOT}
LEAST_UTILIZATION = 80.0  # percent
ADAPTER, OPTIMIZER = "adapter_model.safetensors", "optimizer.pt"
_ROOM = 64 * 2**10  # bytes of a file besides its numbers; matters if the model is tiny
_ALIKE = 0.01
_NO_GPU = "no GPU in training_log.jsonl"
_CLOCKS = 5.0  # seconds by which two clocks and their rounding may differ


@dataclass(frozen=True)
class Evidence:
    """What the nine criteria are decided by."""

    run: str  # the name of its folder in models/
    training: Any  # the section of the test's config
    steps: Sequence[int]  # those that must have a checkpoint
    there: RunEvidence  # what the machine knows
    remote: Mapping[int, CheckpointEvidence]  # of that, the checkpoints by step
    local: Mapping[int, LocalCheckpoint]  # those here, of all steps
    monitor: MonitorRecord
    offset: float  # what makes the machine's times ours


@dataclass(frozen=True)
class Criterion:
    """One line of the guide's checklist."""

    text: str
    met: bool | None  # None if it was not measured; then ``why_not`` says why
    evidence: Sequence[str] = ()  # what decided it, a line each
    why_not: str = ""


def gather_evidence(instance: Instance, name: str, config: Any, now: float) -> Evidence:
    """The evidence from the machine and from here.

    Args:
        instance: the machine.
        name: the file of the test's config.
        config: what it says (`config.RunConfig`).
        now: this computer's time.

    Raises:
        Unreachable: no connection.
        SocratesError: the config has no last step, or its output folder is not the monitor's; the training still runs
            or was never started there; something could not be read.
    """
    run, training = Path(config.output_dir).name, config.training
    if training.max_steps is None or not is_run_name(run):
        raise SocratesError(f'{name}: needs "training.max_steps", and "output_dir" as models/NAME')
    log = f"training_{'test' if Path(name).stem == 'config_test_run' else Path(name).stem}.log"  # as it is launched
    report = ask_machine(instance, run, log)
    found = report.evidence
    if found is None:
        how_far = "" if report.step is None else f" (step {report.step} of {training.max_steps})"
        raise SocratesError(f"{run} is still running{how_far}: run this again when it has ended; nothing was recorded")
    if not found.found:
        where = f"{run} was never started on instance {instance.id}"
        raise SocratesError(f"{where}: there is nothing to judge; nothing was recorded")
    steps = sorted({*range(0, training.max_steps, training.save_steps), training.max_steps} - {0})
    remote, local = {checkpoint.step: checkpoint for checkpoint in found.checkpoints}, {}
    for step in steps:
        folder = instance.root / "models" / run / f"checkpoint-{step}"
        local[step] = local_state(folder, remote[step].manifest_sha256 if step in remote else None)
    monitor = read_monitor(instance.root, instance.id)
    return Evidence(run, training, steps, found, remote, local, monitor, now - report.time)


def check_criteria(e: Evidence) -> list[Criterion]:
    """The nine criteria, in the guide's words and order."""
    on_the_way = (_completed, _saved, _downloaded, _sizes, _loss_decreased, _gpus_used, _memory_sufficed)
    return [judge(e) for judge in (*on_the_way, _contents_listed, _monitor_ran)]


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


def _completed(e: Evidence) -> Criterion:
    """The last checkpoint's trainer state, the supervisor's record, and no error in the log."""
    goal, t = e.training.max_steps, e.there
    text = f"Training completed {goal} steps without errors"
    good = t.global_step == t.max_steps == goal
    reached = f"step {t.global_step or 'unknown'} of {t.max_steps or 'unknown'} (the config says {goal})"
    lines = [f"trainer_state.json of checkpoint-{max(e.remote)}: {reached}" if e.remote else "no checkpoint there"]
    if t.supervisor is None:
        lines.append("no supervisor's record of this run: started by hand, or another run was started since")
    else:
        good = good and t.supervisor == "complete" and not t.restarts
        state = "running, but it is gone" if t.supervisor == "running" else t.supervisor
        lines.append(f"supervisor: {state}, {count(t.restarts, 'restart')}")
    if not t.log:
        return Criterion(text, good and None, [*lines, f"{t.log_name}: no such log there"], "no log")
    return Criterion(text, good and t.error is None, [*lines, f"{t.log_name}: {t.error or 'no error'}"])


def _saved(e: Evidence) -> Criterion:
    """Every expected checkpoint is there, and every byte of it is its manifest's."""
    damage = {step: e.remote[step].damage if step in e.remote else "not there" for step in e.steps}
    return _all_of_them(e, "saved on remote", damage, "every file's SHA-256 is its manifest's")


def _downloaded(e: Evidence) -> Criterion:
    """Every expected checkpoint is here, intact, and the one that is there."""
    words = {ABSENT: "not here", OTHER: "intact, but another one than there"}
    wrong = {step: words.get(here.kind, here.reason) for step, here in e.local.items()}
    return _all_of_them(e, "downloaded locally", wrong, "every byte verified")


def _all_of_them(e: Evidence, what: str, wrong: Mapping[int, str | None], right: str) -> Criterion:
    """Whether nothing is wrong with any checkpoint."""
    good = [step for step, problem in wrong.items() if not problem]
    lines = [f"checkpoints {shorten(good)}: {right}"] if good else []
    bad = [f"checkpoint-{step}: {problem}" for step, problem in wrong.items() if problem]
    return Criterion(f"All {len(e.steps)} checkpoints {what}", not bad, lines + bad)


def _sizes(e: Evidence) -> Criterion:
    """All are alike, and `optimizer.pt` holds two bf16 moments for each parameter, whatever is trained in."""
    text = "Each checkpoint ~390MB (adapter + optimizer)"
    sizes = {step: e.remote[step].sizes if step in e.remote else {} for step in e.steps}
    lost = [step for step, found in sizes.items() if not {ADAPTER, OPTIMIZER} <= found.keys()]
    if lost:
        return Criterion(text, False, [f"checkpoints {shorten(lost)}: adapter or {OPTIMIZER} is not there"])
    lines, wrong, ratio = [], [], 2 if e.training.bf16 else 1
    for step, found in sizes.items():
        adapter, optimizer = found[ADAPTER], found[OPTIMIZER]
        total = _mb(adapter + optimizer)
        lines.append(f"checkpoint-{step}: adapter {_mb(adapter)} + {OPTIMIZER} {_mb(optimizer)} = {total}")
        if not 0.9 * ratio * (adapter - _ROOM) <= optimizer <= 1.15 * ratio * adapter + _ROOM:
            wrong = [f"{OPTIMIZER} is not about {ratio} times the adapter, as two bf16 moments are"]
    totals = [found[ADAPTER] + found[OPTIMIZER] for found in sizes.values()]
    if max(totals) - min(totals) > _ALIKE * max(totals):
        wrong.append("they differ by more than 1%")
    lines.append("the guide's ~390MB is that of Qwen2.5-14B with rank 16; MB as `ls -lh` counts them")
    return Criterion(text, not wrong, lines + wrong)


def _loss_decreased(e: Evidence) -> Criterion:
    """The mean of the last two logged losses is below that of the first two."""
    text, losses = "Loss decreased over training", e.there.losses
    broken = [step for step, loss in losses if loss is None]
    if broken:
        return Criterion(text, False, [f"a logged loss is no number: step {broken[0]}"])
    if len(losses) < 2:
        return Criterion(text, None, [], f"{len(losses)} logged losses in the last checkpoint there")
    lines = [f"Step {step}: loss={loss:.3f}" for step, loss in losses]
    if len(lines) > 8:
        lines = [*lines[:3], "...", *lines[-3:]]
    values, some = [loss for _, loss in losses if loss is not None], 2 if len(losses) >= 4 else 1
    first, last = fmean(values[:some]), fmean(values[-some:])
    how = "mean of the first two to mean of the last two" if some == 2 else "first to last"
    return Criterion(text, last < first, [*lines, f"{how}: {first:.3f} -> {last:.3f}"])


def _gpus_used(e: Evidence) -> Criterion:
    """Each GPU's mean utilization during training, without each start's first line (loading)."""
    gpus, wanted = e.there.gpus, e.training.num_processes
    text = f"GPU utilization >{LEAST_UTILIZATION:.0f}% during training"
    if not gpus:
        few = "too few lines with samples are logged: the first one includes the loading"
        return Criterion(text, None, [], few if e.there.has_gpu else _NO_GPU)
    lines = [f"GPU {index}: mean {mean:.1f}% over {lines} lines of training_log.jsonl" for index, mean, lines in gpus]
    if len(gpus) < wanted:
        lines.append(f"{len(gpus)} GPUs were used, the config has {wanted} processes")
    return Criterion(text, len(gpus) >= wanted and all(mean > LEAST_UTILIZATION for _, mean, _ in gpus), lines)


def _memory_sufficed(e: Evidence) -> Criterion:
    """No out-of-memory error in the log."""
    text, t = "No CUDA out-of-memory errors", e.there
    if t.out_of_memory:
        return Criterion(text, False, [f"{t.log_name}: {t.out_of_memory}"])
    if not t.log or not t.has_gpu:
        return Criterion(text, None, [], _NO_GPU if t.log else f"no {t.log_name} there")
    return Criterion(text, True, [f"{t.log_name}: none"])


def _contents_listed(e: Evidence) -> Criterion:
    """The guide's five files are in every checkpoint, on both sides."""
    there = {step: set(found.sizes) for step, found in e.remote.items()}
    here = {step: {path.name for path in state.path.glob("*")} for step, state in e.local.items()}
    bad = []
    for place, files in (("there", there), ("here", here)):
        lost = {step: [name for name in GUIDE_FILES if name not in files.get(step, ())] for step in e.steps}
        bad += [f"{place}, checkpoint-{step}: no {', '.join(names)}" for step, names in lost.items() if names]
    return Criterion("Can list checkpoint contents", not bad, [", ".join(GUIDE_FILES), *bad])


def _monitor_ran(e: Evidence) -> Criterion:
    """The monitor's record: it looked after the start, saw every checkpoint, and no problem lasts."""
    text, m, start = "Checkpoint monitor ran without errors", e.monitor, e.there.started
    if m.pid is None or start is None:
        return Criterion(text, None, [], "no start is on record there" if m.pid else m.damage or "no monitor's record")
    downloaded = [step for step in e.steps if (e.run, step) in m.downloaded]
    lines = [f"{m.rounds or 'no'} rounds, {len(downloaded)} downloads of this run"]
    lines += [f"unsolved: {problem}" for problem in m.unsolved]
    last_round = (m.last_round or 0.0) - e.offset + _CLOCKS  # by the machine's clock
    if last_round < start:
        return Criterion(text, False, [*lines, "it made no round after the training began"])
    intact = {step: e.remote[step].created for step, here in e.local.items() if here.intact and step in e.remote}
    found = [step for step, created in intact.items() if created is not None and created <= last_round]
    unseen = [step for step in e.steps if step not in (*downloaded, *found)]
    if unseen:
        lines.append(f"checkpoints {shorten(unseen)}: neither downloaded by it nor found intact")
    return Criterion(text, not m.unsolved and not unseen, lines)


def _mb(size: int) -> str:
    return f"{size / 2**20:.0f}MB" if size >= 10 * 2**20 else f"{size / 2**20:.2f}MB"
