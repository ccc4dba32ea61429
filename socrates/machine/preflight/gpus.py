"""Preflight of the GPUs, as torch sees them: number, bf16. Does not cover: other programs on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
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

    def __str__(self) -> str:
        return f"{self.name} ({self.memory_bytes / GIB:.0f} GiB)"


def uses_cpus() -> bool:
    """Whether the training is to run on CPUs on purpose."""
    return os.environ.get("DS_ACCELERATOR") == "cpu"


def find_gpus() -> tuple[list[Gpu], str]:
    """The GPUs that torch can use, and why there are none."""
    if uses_cpus():
        return [], ""
    try:
        done = subprocess.run([sys.executable, "-c", _LIST], capture_output=True, text=True, timeout=_PATIENCE)
        if done.returncode == 0:
            return [Gpu(*values) for values in json.loads(done.stdout)], ""
        why = (done.stderr.strip().splitlines() or [f"torch ended with status {done.returncode}"])[-1]
    except subprocess.TimeoutExpired:
        why = f"torch does not answer within {_PATIENCE} s"
    return [], why


def check_gpus(gpus: list[Gpu], why_none: str, config: RunConfig | None) -> Iterator[Check]:
    """As many GPUs as the config has processes, and bf16.

    Args:
        gpus: from `find_gpus`.
        why_none: as well.
        config: the run; None for a look at the machine alone.
    """
    wanted = config.training.num_processes if config else 0
    if uses_cpus():
        yield Check("GPUs", WARN, "DS_ACCELERATOR=cpu: trains on CPUs on purpose", "unset it to use GPUs")
        return
    found = f"{len(gpus)} x {', '.join(sorted(set(map(str, gpus))))}" if gpus else f"none: {why_none}"
    if not gpus or len(gpus) < wanted:
        needs = f"; the config has {wanted} processes" if wanted else ""
        yield Check("GPUs", FAIL, found + needs, _remedy(len(gpus), config))
        return
    yield Check("GPUs", PASS, found + (f"; {wanted} are used" if wanted else ""))
    if config is None or not config.training.bf16:
        return
    without = sorted({f"{gpu.name} ({gpu.major}.{gpu.minor})" for gpu in gpus[:wanted] if gpu.major < _AMPERE})
    if without:
        remedy = "rent GPUs with compute capability 8.0 or more (A100, L40S, H100)"
        yield Check("bf16", FAIL, f"not on {', '.join(without)}", f'{remedy}, or write "bf16": false in "training"')
    else:
        yield Check("bf16", PASS, "compute capability 8.0 or more")


def _remedy(found: int, config: RunConfig | None) -> str:
    remedy = "look at nvidia-smi and CUDA_VISIBLE_DEVICES; or rent another machine"
    if not found:
        return f"{remedy}, or one with a newer driver"
    batch = config.training.global_batch_size if config else 1
    fitting = max(number for number in range(1, found + 1) if batch % number == 0)
    return f'{remedy}, or write "num_processes": {fitting} in "training" (a step stays {batch} examples)'
