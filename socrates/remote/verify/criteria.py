"""Criteria: the guide's nine of the infrastructure test, each decided by evidence, and the verdict on all.

Covers: met, not met, or not measured, never a guess. Anything unmet fails the test, what was not measured leaves it
undecided. Does not cover: gathering the evidence (`evidence.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

from socrates.checkpoint import GUIDE_FILES
from socrates.errors import EXIT_CANNOT, EXIT_DONE, EXIT_NO
from socrates.files import finite, whole_number
from socrates.remote.local import LIGHT, OTHER
from socrates.remote.status.run_status import restarts_in_words
from socrates.remote.untrusted import plain
from socrates.remote.verify.evidence import ADAPTER, LOG_LIMIT, Adapter, RunEvidence
from socrates.telemetry.log import LogLine

PASS, FAIL, NOT_DECIDED = "PASS", "FAIL", "NOT DECIDED"
EXIT = {PASS: EXIT_DONE, FAIL: EXIT_NO, NOT_DECIDED: EXIT_CANNOT}
LEAST_UTILIZATION = 80.0  # percent
OPTIMIZER = "optimizer.pt"
_MB = 2**20  # as `ls -lh` counts, and so the guide
# Two moments of the same parameters in the same precision: twice the adapter, with room for headers.
_LEAST_RATIO, _MOST_RATIO = 1.8, 2.3
_TORCH_BYTES_PER_TENSOR, _SMALL = 1024, 64 * 2**10  # of optimizer.pt's own, two entries a tensor; matters if tiny
_ALIKE = 0.01
_CLOCKS = 5.0  # seconds by which two clocks and their rounding may differ
_ERROR = re.compile(r"^(?:\[rank\d+\]: ?)?(?:error: |Traceback \(most recent call last\))", re.MULTILINE)
_OUT_OF_MEMORY = re.compile(r"CUDA out of memory|OutOfMemoryError", re.IGNORECASE)
_ON_CPU = re.compile(r"\d CPU processes|ds_accelerator to cpu")


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


def check_criteria(e: RunEvidence) -> list[Criterion]:
    """The nine criteria, in the guide's words and order."""
    return [
        completed(e),
        saved(e),
        downloaded(e),
        sizes(e),
        loss_decreased(e),
        gpus_used(e),
        memory_sufficed(e),
        contents_listed(e),
        monitor_ran(e),
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
    decided = verdict(criteria)
    measured = f"{unknown} {'criterion' if unknown == 1 else 'criteria'} not measured"
    tail = {
        PASS: PASS,
        FAIL: f"{FAIL}: {len(unmet)} of {len(criteria)} not met: {'; '.join(unmet)}",
        NOT_DECIDED: f"{NOT_DECIDED}: {measured}",
    }
    return "\n".join([*lines, "", tail[decided]])


def record(criteria: Sequence[Criterion], **circumstances: Any) -> dict[str, Any]:
    """What `verification.json` says."""
    return {
        "verdict": verdict(criteria),
        "criteria": [
            {
                "text": c.text,
                "met": c.met,
                "evidence": [*c.evidence, *([f"not measured: {c.why_not}"] if c.met is None else [])],
            }
            for c in criteria
        ],
        **circumstances,
    }


def completed(e: RunEvidence) -> Criterion:
    """The last checkpoint's trainer state, the supervisor's record, and no error in the log."""
    lines, good = [], False
    if e.trainer is None:
        where = (
            "no checkpoint there" if e.last_step is None else f"trainer_state.json of checkpoint-{e.last_step}: none"
        )
        lines.append(where)
    else:
        step, goal = whole_number(e.trainer.get("global_step")), whole_number(e.trainer.get("max_steps"))
        good = step == goal == e.max_steps
        lines.append(f"trainer_state.json of checkpoint-{e.last_step}: step {_or(step)} of {_or(goal)}")
        if goal != e.max_steps:
            lines.append(f"the config says {e.max_steps} steps")
    if e.supervisor is None:
        lines.append("no supervisor's record of this run: started by hand, or another run was started since")
    else:
        s = e.supervisor
        good = good and s.state == "complete" and s.restarts == 0
        state = "running, but it is gone" if s.state == "running" else s.state
        lines.append(f"supervisor: {state}, {restarts_in_words(s)}" + (f": {s.reason}" if s.state == "failed" else ""))
        if s.attempts and s.attempts[0].from_step:
            lines.append(f"it went on from step {s.attempts[0].from_step}")
    if e.log is None:
        lines.append(f"{e.log_name}: no such log there")
        return Criterion(
            f"Training completed {e.max_steps} steps without errors", good and None, tuple(lines), "no log"
        )
    found = first_error(e.log)
    lines.append(f"{_log_name(e)}: " + (f"{found}" if found else "no error"))
    return Criterion(f"Training completed {e.max_steps} steps without errors", good and found is None, tuple(lines))


def saved(e: RunEvidence) -> Criterion:
    """Every expected checkpoint is there, and every byte of it is its manifest's."""
    bad = [
        f"checkpoint-{s}: {e.remote[s].damage if s in e.remote else 'not there'}" for s in e.steps if not _good(e, s)
    ]
    good = [step for step in e.steps if _good(e, step)]
    lines = [f"{_names(good)}: every file's SHA-256 is its manifest's"] if good else []
    return Criterion(f"All {len(e.steps)} checkpoints saved on remote", not bad, (*lines, *bad))


def downloaded(e: RunEvidence) -> Criterion:
    """Every expected checkpoint is here, intact, and the one that is there."""
    good, light, bad = [], [], []
    for step in e.steps:
        here = e.local.get(step)
        if here is None or here.state.kind == "absent":
            bad.append(f"checkpoint-{step}: not here")
        elif here.state.kind == OTHER:
            bad.append(f"checkpoint-{step}: intact, but another one than there")
        elif not here.state.intact:
            bad.append(f"checkpoint-{step}: {here.state.reason or 'damaged'}")
        elif step not in e.remote or e.remote[step].manifest_sha256 is None:
            bad.append(f"checkpoint-{step}: here, but there is no manifest there to compare with")
        else:
            (light if here.state.kind == LIGHT else good).append(step)
    lines = [f"{_names(good)}: every byte verified, the same manifest as there"] if good else []
    lines += [f"{_names(light)}: the guide's files only (--light), verified"] if light else []
    return Criterion(f"All {len(e.steps)} checkpoints downloaded locally", not bad, (*lines, *bad))


def sizes(e: RunEvidence) -> Criterion:
    """`optimizer.pt` is about twice the adapter, the adapter what rank and layers give, and all are alike."""
    text = "Each checkpoint ~390MB (adapter + optimizer)"
    pairs = {}
    for step, checkpoint in sorted(e.remote.items()):
        files = checkpoint.manifest.files if checkpoint.manifest else {}
        if ADAPTER in files and OPTIMIZER in files:
            pairs[step] = (files[ADAPTER][0], files[OPTIMIZER][0])
    lost = [step for step in e.steps if step not in pairs]
    if lost:
        return Criterion(text, False, (f"{_names(lost)}: adapter or {OPTIMIZER} is not there",))
    totals = [sum(pair) for pair in pairs.values()]
    alike = max(totals) - min(totals) <= _ALIKE * max(totals)
    shown = {"each": next(iter(pairs.values()))} if alike else {f"checkpoint-{s}": pair for s, pair in pairs.items()}
    lines = [
        f"{name}: adapter {_mb(a)} + {OPTIMIZER} {_mb(o)} = {_mb(a + o)}" for name, (a, o) in shown.items()
    ]  # fmt: skip
    lines.append("the guide's ~390MB is that of Qwen2.5-14B with rank 16; MB as `ls -lh` counts them")
    if not alike:
        lines.append("they differ by more than 1%")
    adapter = next((c.adapter for _, c in sorted(e.local.items()) if c.state.intact and c.adapter), None)
    if adapter is None:
        known_bad = not alike or not all(_LEAST_RATIO * a <= o for a, o in pairs.values())
        why = "no intact checkpoint is here whose parameters could be counted"
        return Criterion(text, False if known_bad else None, tuple(lines), why)
    problems = list(_size_problems(adapter, e, pairs))
    lines.append(
        f"adapter: {adapter.parameters:,} parameters of 2 bytes, rank {_set(adapter.ranks)}, "
        f"{len(adapter.modules)} kinds of layers"
    )
    return Criterion(text, alike and not problems, (*lines, *problems))


def loss_decreased(e: RunEvidence) -> Criterion:
    """The mean of the last two logged losses is below that of the first two."""
    text = "Loss decreased over training"
    history = e.trainer.get("log_history") if e.trainer else None
    found = [item for item in history if isinstance(item, dict) and "loss" in item] if isinstance(history, list) else []
    broken = [item for item in found if finite(item["loss"], -1e9, 1e9) is None]
    if broken:
        return Criterion(text, False, (f"a logged loss is no number: step {_or(whole_number(broken[0].get('step')))}",))
    losses = [(whole_number(item.get("step")), float(item["loss"])) for item in found]
    if len(losses) < 2:
        return Criterion(text, None, (), f"{len(losses)} logged losses in the last checkpoint there")
    lines = [f"Step {_or(step)}: loss={loss:.3f}" for step, loss in losses]
    if len(lines) > 8:
        lines = [*lines[:3], "...", *lines[-3:]]
    values = [loss for _, loss in losses]
    if len(values) < 4:
        first, last, how = values[0], values[-1], "first to last"
    else:
        first, last, how = fmean(values[:2]), fmean(values[-2:]), "mean of the first two to mean of the last two"
    return Criterion(text, last < first, (*lines, f"{how}: {first:.3f} -> {last:.3f}"))


def gpus_used(e: RunEvidence) -> Criterion:
    """Each GPU's mean utilization during training, without each start's first line (loading)."""
    text = f"GPU utilization >{LEAST_UTILIZATION:.0f}% during training"
    values: dict[int, list[float]] = {}
    for line in after_loading(this_start(e)):
        for index, utilization in line.gpus:
            if utilization is not None:
                values.setdefault(index, []).append(utilization)
    if not values:
        if not any(line.gpus for line in e.lines):
            return Criterion(text, None, (), "no GPU" if not e.nvidia_smi or _on_cpu(e) else "no samples were logged")
        return Criterion(text, None, (), "too few lines are logged: the first one includes the loading")
    means = {index: fmean(found) for index, found in sorted(values.items())}
    lines = [f"GPU {i}: mean {m:.1f}% over {len(values[i])} lines of training_log.jsonl" for i, m in means.items()]
    if len(means) < e.num_processes:
        lines.append(f"{len(means)} GPUs were used, the config has {e.num_processes} processes")
    enough = len(means) >= e.num_processes and all(mean > LEAST_UTILIZATION for mean in means.values())
    return Criterion(text, enough, tuple(lines))


def memory_sufficed(e: RunEvidence) -> Criterion:
    """No out-of-memory error in the log."""
    text = "No CUDA out-of-memory errors"
    if e.log is None:
        return Criterion(text, None, (), f"no {e.log_name} there")
    match = _OUT_OF_MEMORY.search(e.log)
    if match:
        return Criterion(text, False, (f"{_log_name(e)}: {_line_at(e.log, match.start())}",))
    if not any(line.gpus for line in this_start(e)) and (not e.nvidia_smi or _on_cpu(e)):
        return Criterion(text, None, (), "no GPU")
    if e.log_is_cut:
        return Criterion(text, None, (f"{_log_name(e)}: none",), "the log is longer than what was read")
    return Criterion(text, True, (f"{_log_name(e)}: none",))


def contents_listed(e: RunEvidence) -> Criterion:
    """The guide's five files are in every checkpoint, on both sides."""
    lines, complete = [], True
    for place, files in (
        ("there", {step: found.files for step, found in e.remote.items()}),
        ("here", {step: found.files for step, found in e.local.items()}),
    ):
        whole_ones = [step for step in e.steps if set(GUIDE_FILES) <= files.get(step, frozenset())]
        lines.append(f"{place}: the guide's {len(GUIDE_FILES)} files in {len(whole_ones)} of {len(e.steps)}")
        for step in e.steps:
            lost = [name for name in GUIDE_FILES if name not in files.get(step, frozenset())]
            if lost:
                complete = False
                lines.append(
                    f"{place}, checkpoint-{step}: " + (f"no {', '.join(lost)}" if files.get(step) else "nothing")
                )
    return Criterion("Can list checkpoint contents", complete, (", ".join(GUIDE_FILES), *lines))


def monitor_ran(e: RunEvidence) -> Criterion:
    """The monitor's record: it looked after the start, saw every checkpoint, and no problem lasts."""
    text, m = "Checkpoint monitor ran without errors", e.monitor
    if not m.found:
        return Criterion(text, None, (), "no monitor's record here")
    start = training_start(e)
    lines = [f"{_or(m.rounds)} rounds, {len([s for s in e.steps if (e.run, s) in m.downloaded])} downloads of this run"]
    problems = [f"unsolved: {problem}" for problem in m.unsolved]
    if m.last_round is None or (start is not None and m.last_round < start + e.offset - _CLOCKS):
        return Criterion(text, False, (*lines, *problems, "it made no round after the training began"))
    if start is None:
        return Criterion(text, False if problems else None, (*lines, *problems), "the training's start is unknown")
    unseen = [step for step in e.steps if not _seen(e, step)]
    if unseen:
        problems.append(f"{_names(unseen)}: neither downloaded by it nor found intact")
    return Criterion(text, not problems, (*lines, *problems))


def training_start(e: RunEvidence) -> float | None:
    """When the training under test began, seconds since 1970, there."""
    if e.supervisor is not None and e.supervisor.started is not None:
        return e.supervisor.started
    lines = _last_process(e.lines)
    if lines and lines[0].time is not None and lines[0].elapsed_s is not None:
        return lines[0].time - lines[0].elapsed_s
    return None


def this_start(e: RunEvidence) -> tuple[LogLine, ...]:
    """The lines of the training under test; an earlier one into the same folder has left its own."""
    if e.supervisor is None or e.supervisor.started is None:
        return _last_process(e.lines)
    return tuple(line for line in e.lines if line.time is not None and line.time >= e.supervisor.started - 5)


def after_loading(lines: Sequence[LogLine]) -> list[LogLine]:
    """Without the first line of each process, whose samples include the loading of the model."""
    return [line for before, line in pairwise(lines) if not line.is_of_new_process(before)]


def first_error(log: str) -> str | None:
    """The first line of a log that tells of an error, or None; what Python ignored at its exit is none."""
    for match in _ERROR.finditer(log):
        before = log[: match.start()].rstrip("\n").rpartition("\n")[2]
        if not before.startswith("Exception ignored"):
            return _line_at(log, match.start())
    return None


def _size_problems(adapter: Adapter, e: RunEvidence, pairs: dict[int, tuple[int, int]]) -> list[str]:
    problems = []
    weights = 2 * adapter.parameters
    room = _SMALL + _TORCH_BYTES_PER_TENSOR * adapter.tensors
    if abs(adapter.weight_bytes - weights) > 0.1 * weights:
        problems.append(f"the adapter's weights take {adapter.weight_bytes:,} bytes, not {weights:,}")
    if adapter.ranks != {e.rank}:
        problems.append(f"the adapter's rank is {_set(adapter.ranks)}, the config's {e.rank}")
    if adapter.modules != e.modules:
        problems.append(f"adapted layers are {_set(adapter.modules)}, the config's {_set(e.modules)}")
    for step, (file, optimizer) in pairs.items():
        if not weights <= file <= 1.1 * weights + 300 * adapter.tensors + _SMALL:
            problems.append(f"checkpoint-{step}: an adapter of {file:,} bytes does not hold {weights:,} of weights")
        if not _LEAST_RATIO * weights <= optimizer <= _MOST_RATIO * weights + room:
            problems.append(f"checkpoint-{step}: {OPTIMIZER} is not about twice the adapter ({optimizer / file:.2f})")
    return problems


def _good(e: RunEvidence, step: int) -> bool:
    return step in e.remote and e.remote[step].damage is None


def _seen(e: RunEvidence, step: int) -> bool:
    if (e.run, step) in e.monitor.downloaded:
        return True
    here, there = e.local.get(step), e.remote.get(step)
    if here is None or not here.state.intact or there is None or there.created is None:
        return False
    return e.monitor.last_round is not None and e.monitor.last_round >= there.created + e.offset - _CLOCKS


def _last_process(lines: Sequence[LogLine]) -> tuple[LogLine, ...]:
    start = max((at for at, (b, line) in enumerate(pairwise(lines), 1) if line.is_of_new_process(b)), default=0)
    return tuple(lines[start:])


def _on_cpu(e: RunEvidence) -> bool:
    return e.log is not None and _ON_CPU.search(e.log) is not None


def _log_name(e: RunEvidence) -> str:
    return f"{e.log_name} (its last {LOG_LIMIT >> 20} MB)" if e.log_is_cut else e.log_name


def _line_at(text: str, position: int) -> str:
    begin = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    return plain(text[begin : len(text) if end < 0 else end], 150)


def _names(steps: Sequence[int]) -> str:
    """checkpoint-10, -20, -30; the first and the last of many."""
    if len(steps) > 8:
        return f"checkpoint-{steps[0]} ... -{steps[-1]} ({len(steps)})"
    return f"checkpoint-{', -'.join(map(str, steps))}"


def _mb(size: int) -> str:
    return f"{size / _MB:.0f}MB" if size >= 10 * _MB else f"{size / _MB:.2f}MB"


def _or(value: object | None) -> str:
    return "unknown" if value is None else str(value)


def _set(values: frozenset[Any]) -> str:
    return ", ".join(map(str, sorted(values))) or "none"
