"""Evidence of the infrastructure test: from the machine by one command, and from this computer.

Covers: every file of every expected checkpoint is hashed there, and compared with its manifest here; the machine needs
bash, coreutils and find. Does not cover: what the evidence proves; see `criteria.py`.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import struct
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from socrates.checkpoint import MANIFEST, Manifest, is_run_name, read_manifest
from socrates.config import load_config
from socrates.errors import SocratesError
from socrates.files import whole_number
from socrates.remote.instance import REMOTE_ROOT, Instance
from socrates.remote.local import LocalCheckpoint, MonitorRecord, local_state, read_monitor
from socrates.remote.status.machine_report import GATHER, MachineReport, SupervisorReport, parse_report
from socrates.remote.untrusted import FINISH, PRELUDE, answer_sections, json_object, plain
from socrates.telemetry.log import LogLine, parse_log

ADAPTER = "adapter_model.safetensors"
LOG_LIMIT = 4 * 2**20  # bytes of the text log that are looked at
# What the launch scripts call a run's log.
_LOGS = {
    "config_test_run.json": "training_test.log",
    "config_500step_validation.json": "training_500step.log",
    "config_full_dataset.json": "training.log",
}
_LARGEST_HEADER = 100 * 2**20
_PATIENCE = 3600.0  # seconds; some GB are hashed there

_BODY = r"""
cd "$ROOT" || exit 3
if command -v nvidia-smi >/dev/null; then echo yes | give nvidia-smi 10; fi
if [[ -f $LOG ]]; then
  size=$(stat -L -c %s -- "$LOG")
  ((from = OFFSET <= size ? OFFSET : 0))
  ((size - from <= LIMIT)) || { echo yes | give log-is-cut 10; ((from = size - LIMIT)); }
  tail -c "+$((from + 1))" -- "$LOG" | give log "$LIMIT"
fi
folder=models/$RUN
[[ ! -f $folder/training_log.jsonl ]] || tail -c 1048576 -- "$folder/training_log.jsonl" | give lines 1048576
file=$folder/checkpoint-$LAST/trainer_state.json
[[ ! -f $file ]] || give trainer 8388608 <"$file"
for step in $STEPS; do
  [[ -d $folder/checkpoint-$step ]] || continue
  (cd -- "$folder/checkpoint-$step" && find . -type f -exec sha256sum {} +) | give "digests $step" 4000000
  file=$folder/checkpoint-$step/manifest.json
  [[ ! -f $file ]] || give "manifest $step" 10485760 <"$file"
done
"""


@dataclass(frozen=True)
class RemoteEvidence:
    """A checkpoint on the machine, every file of it read there.

    Attributes:
        damage: the first thing wrong with it; None if every byte is its manifest's.
        manifest: None if there is none that can be read.
        manifest_sha256: of the manifest's bytes there.
        files: what is in the folder.
        created: when its manifest was made, seconds since 1970, there.
    """

    damage: str | None
    manifest: Manifest | None = None
    manifest_sha256: str | None = None
    files: frozenset[str] = frozenset()
    created: float | None = None


@dataclass(frozen=True)
class Adapter:
    """What the header of an adapter file says: parameters, bytes of the weights, ranks and layers."""

    parameters: int
    weight_bytes: int
    tensors: int
    ranks: frozenset[int]
    modules: frozenset[str]


@dataclass(frozen=True)
class LocalEvidence:
    """A checkpoint on this computer, every byte of it read."""

    state: LocalCheckpoint
    files: frozenset[str] = frozenset()
    adapter: Adapter | None = None


@dataclass(frozen=True)
class RunEvidence:
    """What the nine criteria are decided by. Times are seconds since 1970, there; ``offset`` makes them ours."""

    run: str
    max_steps: int
    save_steps: int
    num_processes: int
    rank: int
    modules: frozenset[str]
    steps: tuple[int, ...]  # that must have a checkpoint
    supervisor: SupervisorReport | None = None
    last_step: int | None = None  # of the newest checkpoint there
    trainer: Mapping[str, Any] | None = None  # its trainer_state.json
    log_name: str = ""
    log: str | None = None  # since the last start; None: not there
    log_is_cut: bool = False
    lines: tuple[LogLine, ...] = ()
    nvidia_smi: bool = False
    remote: Mapping[int, RemoteEvidence] = field(default_factory=dict)
    local: Mapping[int, LocalEvidence] = field(default_factory=dict)
    monitor: MonitorRecord = field(default_factory=MonitorRecord)
    offset: float = 0.0


def evidence_command(run: str, steps: Sequence[int], last: int | None, log: str, offset: int) -> str:
    """The bash command that gathers what only the machine knows."""
    values = {
        "ROOT": REMOTE_ROOT,
        "RUN": run,
        "STEPS": " ".join(map(str, steps)),
        "LAST": "none" if last is None else str(last),
        "LOG": f"./{log}",
        "OFFSET": str(offset),
        "LIMIT": str(LOG_LIMIT),
    }
    return "\n".join(f"{name}={shlex.quote(value)}" for name, value in values.items()) + PRELUDE + _BODY + FINISH


def gather_evidence(instance: Instance, config_name: str) -> RunEvidence:
    """The evidence from the machine and from here.

    Args:
        instance: the machine.
        config_name: the test's run config, on this computer.

    Raises:
        Unreachable: no connection.
        SocratesError: the training still runs or was never started there, or something could not be read.
    """
    config = load_config(config_name)
    run, goal = Path(config.output_dir).name, config.training.max_steps
    if goal is None or not is_run_name(run):
        raise SocratesError(f'{config_name}: needs "training.max_steps", and "output_dir" as models/NAME')
    clock = time.time()
    report = parse_report(instance.run(GATHER, timeout=120).stdout)
    if is_training(report, run):
        progress = report.runs[run].progress if run in report.runs else None
        how_far = f" (step {progress.step} of {goal})" if progress else ""
        raise SocratesError(f"{run} is still running{how_far}: run this again when it has ended; nothing was recorded")
    supervisor = report.supervisor if report.supervisor and report.supervisor.run == run else None
    there = report.runs[run].steps if run in report.runs else ()
    log = supervisor.log if supervisor and supervisor.log in report.logs else log_name(config_name)
    if run not in report.runs and supervisor is None and log not in report.logs:
        raise SocratesError(
            f"{run} was never started on instance {instance.id}: there is nothing to judge; nothing was recorded"
        )
    base = RunEvidence(
        run=run,
        max_steps=goal,
        save_steps=config.training.save_steps,
        num_processes=config.training.num_processes,
        rank=config.lora.r,
        modules=frozenset(config.lora.target_modules),
        steps=expected_steps(goal, config.training.save_steps),
        supervisor=supervisor,
        last_step=max(there, default=None),
        log_name=log,
        monitor=read_monitor(instance.root, instance.id),
        offset=0.0 if report.clock is None else clock - report.clock,
    )
    evidence = replace(base, **gather_remote(instance, base))
    manifests = {step: found.manifest_sha256 for step, found in evidence.remote.items()}
    folder = instance.root / "models" / run
    local = {step: check_local_checkpoint(folder / f"checkpoint-{step}", manifests.get(step)) for step in base.steps}
    return replace(evidence, local=local)


def log_name(config_name: str) -> str:
    """What the launch scripts call the log of a run with this config."""
    path = Path(config_name)
    return _LOGS.get(path.name, f"training_{path.stem}.log")


def gather_remote(instance: Instance, base: RunEvidence) -> dict[str, Any]:
    """What the machine tells, as fields of `RunEvidence`.

    Raises:
        Unreachable: no connection.
        SocratesError: the answer was cut off, or the command failed.
    """
    offset = base.supervisor.log_offset if base.supervisor else 0
    command = evidence_command(base.run, base.steps, base.last_step, base.log_name, offset)
    return parse_evidence(instance.run(command, timeout=_PATIENCE).stdout, base.steps)


def parse_evidence(answer: bytes, steps: Sequence[int]) -> dict[str, Any]:
    """The answer to `evidence_command`, as fields of `RunEvidence`."""
    found = answer_sections(answer)
    return {
        "log": found["log"].decode(errors="replace") if "log" in found else None,
        "log_is_cut": "log-is-cut" in found,
        "lines": tuple(parse_log(found.get("lines", b""))),
        "nvidia_smi": "nvidia-smi" in found,
        "trainer": json_object(found.get("trainer", b"")),
        "remote": {
            step: check_remote_checkpoint(step, found[f"digests {step}"], found.get(f"manifest {step}"))
            for step in steps
            if f"digests {step}" in found
        },
    }


def check_remote_checkpoint(step: int, digests: bytes, manifest: bytes | None) -> RemoteEvidence:
    """Check a checkpoint by the SHA-256 of its files and by its manifest, as they were reported."""
    reported = dict[str, str]()
    for line in digests.decode(errors="surrogateescape").splitlines():
        digest, _, path = line.partition("  ./")
        if len(digest) == 64:
            reported[path] = digest
    files = frozenset(reported)
    if manifest is None:
        return RemoteEvidence(f"no {MANIFEST}: it was not finished", files=files)
    sha256 = hashlib.sha256(manifest).hexdigest()
    if reported.get(MANIFEST) != sha256:
        return RemoteEvidence(f"{MANIFEST} changed while it was read", files=files)
    try:
        listed = _manifest_of(manifest)
    except SocratesError as error:
        return RemoteEvidence(f"{MANIFEST} cannot be used: {plain(str(error))}", files=files)
    damage = f"{MANIFEST} is of step {listed.step}" if listed.step != step else None
    for path, (_, expected) in listed.files.items():
        if path not in reported:
            damage = damage or f"{plain(path)} is missing"
        elif reported[path] != expected:
            damage = damage or f"{plain(path)} has changed: its SHA-256 is not the manifest's"
    created = (json_object(manifest) or {}).get("created")
    return RemoteEvidence(damage, listed, sha256, files, _moment(created))


def check_local_checkpoint(folder: Path, manifest_sha256: str | None) -> LocalEvidence:
    """Read a checkpoint on this computer, every byte."""
    state = local_state(folder, manifest_sha256)
    if not folder.is_dir():
        return LocalEvidence(state)
    files = frozenset(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return LocalEvidence(state, files, read_adapter(folder / ADAPTER))


def read_adapter(path: Path) -> Adapter | None:
    """The header of a safetensors file with LoRA weights, or None if it is none."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _LARGEST_HEADER:
                return None
            header = json.loads(file.read(length))
        tensors = {name: value for name, value in header.items() if name != "__metadata__"}
        counts = [_product(value["shape"]) for value in tensors.values()]
        ends = [value["data_offsets"][1] for value in tensors.values()]
        ranks = {value["shape"][0] for name, value in tensors.items() if ".lora_A." in name}
        ranks |= {value["shape"][1] for name, value in tensors.items() if ".lora_B." in name}
        modules = {name.partition(".lora_")[0].rpartition(".")[2] for name in tensors if ".lora_" in name}
        return Adapter(sum(counts), max(ends, default=0), len(tensors), frozenset(ranks), frozenset(modules))
    except (OSError, ValueError, struct.error, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return None


def expected_steps(max_steps: int, save_steps: int) -> tuple[int, ...]:
    """The steps at which a run saves: every ``save_steps``, and at its end."""
    return tuple(sorted({*range(save_steps, max_steps + 1, save_steps), max_steps}))


def is_training(report: MachineReport, run: str) -> bool:
    """Whether a run is being trained at this moment."""
    supervised = report.supervised and report.supervisor is not None and report.supervisor.run == run
    return bool(supervised) or run in report.trained


def _manifest_of(data: bytes) -> Manifest:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MANIFEST).write_bytes(data)
        return read_manifest(folder)


def _product(shape: Sequence[int]) -> int:
    result = 1
    for size in shape:
        known = whole_number(size)
        if known is None:
            raise ValueError(f"a size that is none: {size!r}")
        result *= known
    return result


def _moment(value: Any) -> float | None:
    try:
        return datetime.fromisoformat(value).timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return None
