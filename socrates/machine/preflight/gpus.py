"""Preflight of the GPUs, as torch sees them: number, bf16. Does not cover: other programs on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass

from socrates.config import RunConfig
from socrates.machine.preflight.checks import FAIL, GIB, PASS, WARN, Check

# Asked of torch in a process of its own, which gives the GPUs free again, and which no broken driver can take us with.
_LIST = """
import json, torch
torch.cuda.init()
gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
print(json.dumps([[gpu.name, gpu.total_memory, gpu.major, gpu.minor] for gpu in gpus]))
"""
_PATIENCE = 120  # seconds
_AMPERE = 8  # the first compute capability whose tensor cores know bf16, 8.0


@dataclass(frozen=True)
class Gpu:
    """One GPU; of its memory, what programs get."""

    name: str
    memory_bytes: int
    major: int
    minor: int


def uses_cpus() -> bool:
    """Whether the training is to run on CPUs on purpose."""
    return os.environ.get("DS_ACCELERATOR") == "cpu"


def inspect_gpus(config: RunConfig | None) -> tuple[list[Check], list[Gpu]]:
    """Whether there are as many GPUs as the config has processes, and bf16; and those that the run takes.

    Without a config it is a look at the machine alone.
    """
    if uses_cpus():
        return [Check("GPUs", WARN, "DS_ACCELERATOR=cpu: trains on CPUs on purpose", "unset it to use GPUs")], []
    gpus, why_none = _find_gpus()
    wanted = config.training.num_processes if config else 0
    used = gpus[:wanted]
    kinds = sorted({f"{gpu.name} ({gpu.memory_bytes / GIB:.0f} GiB)" for gpu in gpus})
    found = f"{len(gpus)} x {', '.join(kinds)}" if gpus else f"none: {why_none}"
    if not gpus or len(gpus) < wanted:
        needs = f"; the config has {wanted} processes" if wanted else ""
        return [Check("GPUs", FAIL, found + needs, _remedy(len(gpus), config))], used
    checks = [Check("GPUs", PASS, found + (f"; {wanted} are used" if wanted else ""))]
    old = sorted({f"{gpu.name} ({gpu.major}.{gpu.minor})" for gpu in used if gpu.major < _AMPERE})
    if config and config.training.bf16 and old:
        remedy = 'rent GPUs of compute capability 8.0 or more (A100, L40S, H100), or write "bf16": false in "training"'
        checks.append(Check("bf16", FAIL, f"not on {', '.join(old)}", remedy))
    return checks, used


def _find_gpus() -> tuple[list[Gpu], str]:
    """The GPUs that torch can use, and why there are none."""
    try:
        done = subprocess.run([sys.executable, "-c", _LIST], capture_output=True, text=True, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return [], f"torch does not answer within {_PATIENCE} s"
    if done.returncode == 0:
        return [Gpu(*values) for values in json.loads(done.stdout)], ""
    return [], (done.stderr.strip().splitlines() or [f"torch ended with status {done.returncode}"])[-1]


def _remedy(found: int, config: RunConfig | None) -> str:
    remedy = "look at nvidia-smi and CUDA_VISIBLE_DEVICES; or rent another machine"
    if not found:
        return f"{remedy}, or one with a newer driver"
    batch = config.training.global_batch_size if config else 1
    fitting = max(number for number in range(1, found + 1) if batch % number == 0)
    return f'{remedy}, or write "num_processes": {fitting} in "training" (a step stays {batch} examples)'
