"""GPU samples: which GPUs a training uses, and what they were doing, from `nvidia-smi`.

Covers: the GPUs that this training uses, on the machine of rank 0. Never fatal: where the program is missing, fails,
hangs or prints something else, there are no samples.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import fmean
from typing import Any

from socrates.errors import SocratesError
from socrates.files import finite

INTERVAL = 5.0  # seconds between samples
_QUERY = "--query-gpu=index,utilization.gpu,memory.used,memory.total,name"
_PATIENCE = 10.0  # seconds; a driver in trouble makes nvidia-smi hang


@dataclass(frozen=True)
class GpuSample:
    """One GPU at one moment; None where the driver does not report it, as for one that is cut into slices."""

    index: int
    utilization: float | None  # percent of the last second in which a kernel ran
    memory_mib: float | None
    memory_total_mib: float | None
    name: str = ""


def start_sampling(listener: Callable[[list[GpuSample]], None]) -> None:
    """Give ``listener`` each moment's samples, in a thread of its own until the process ends, where there are GPUs."""
    names = [] if os.environ.get("DS_ACCELERATOR") == "cpu" else named_gpus(os.environ)
    numbers = None if names is None else [int(name) for name in names if name.isdecimal()]

    def run() -> None:
        while True:
            time.sleep(INTERVAL)  # first a pause: at the start the GPUs are idle
            listener([gpu for gpu in query_gpus() if numbers is None or gpu.index in numbers])

    if numbers != [] and shutil.which("nvidia-smi"):
        threading.Thread(target=run, name="gpu-sampler", daemon=True).start()


def summarize(samples: Sequence[GpuSample]) -> list[dict[str, Any]]:
    """A record for each GPU: mean utilization (percent), most memory (MiB)."""
    records = []
    for index in sorted({sample.index for sample in samples}):
        group = [sample for sample in samples if sample.index == index]
        uses = [sample.utilization for sample in group if sample.utilization is not None]
        memory = max((sample.memory_mib for sample in group if sample.memory_mib is not None), default=None)
        use = round(fmean(uses), 1) if uses else None
        records.append({"index": index, "utilization": use, "memory_mib": memory})
    return records


def query_gpus() -> list[GpuSample]:
    """One sample of every GPU, or an empty list where that cannot be had."""
    command = ["nvidia-smi", _QUERY, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split(", ", 4) for line in done.stdout.decode(errors="replace").splitlines()]
    whole = [row for row in rows if len(row) == 5 and row[0].isdecimal()]
    return [GpuSample(int(index), *map(_number, numbers), name=name.strip()) for index, *numbers, name in whole]


def gpu_numbers(environment: Mapping[str, str], wanted: int) -> list[int] | None:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves for so many ranks; None where it does not say.

    Raises:
        SocratesError: it names fewer, or not by their numbers, which are all that DeepSpeed's launcher takes.
    """
    names = named_gpus(environment)
    if environment.get("DS_ACCELERATOR") == "cpu" or names is None:
        return None
    value = f"CUDA_VISIBLE_DEVICES={environment['CUDA_VISIBLE_DEVICES']}"
    if not all(name.isdecimal() for name in names):
        raise SocratesError(f"{value} does not name GPUs by number; write their numbers (nvidia-smi -L lists them)")
    if len(names) < wanted:
        raise SocratesError(f"{value} names {len(names)} GPUs, {wanted} processes need one each")
    return [int(name) for name in names[:wanted]]


def named_gpus(environment: Mapping[str, str]) -> list[str] | None:
    """What CUDA_VISIBLE_DEVICES names, by number or UUID; None where it is not set.

    As CUDA has it, -1 hides every GPU that is named after it.
    """
    if "CUDA_VISIBLE_DEVICES" not in environment:
        return None
    names = (name.strip() for name in environment["CUDA_VISIBLE_DEVICES"].split(","))
    return [name for name in takewhile(lambda name: not name.startswith("-"), names) if name]


def _number(text: str) -> float | None:
    try:
        return finite(float(text), 0, 1e9)
    except ValueError:  # "[N/A]"
        return None
