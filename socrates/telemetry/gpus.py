"""GPU samples: which GPUs a training uses, and what they were doing, from `nvidia-smi`.

Covers: the GPUs that this training uses, on the machine of rank 0. Never fatal: where the program is missing, fails,
hangs or prints something else, there are no samples. Does not cover: other machines of a run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from statistics import fmean
from typing import Any

from socrates.errors import SocratesError
from socrates.files import finite

INTERVAL = 5.0  # seconds between samples
_QUERY = "--query-gpu=index,uuid,utilization.gpu,memory.used,memory.total,name"
_PATIENCE = 10.0  # seconds; a driver in trouble makes nvidia-smi hang


@dataclass(frozen=True)
class GpuSample:
    """One GPU at one moment; None where the driver does not report it, as for one that is cut into slices."""

    index: int
    utilization: float | None  # percent of the last second in which a kernel ran
    memory_mib: float | None
    memory_total_mib: float | None
    name: str = ""
    uuid: str = ""

    def is_named(self, name: str) -> bool:
        """Whether CUDA_VISIBLE_DEVICES means this GPU by ``name``: its number, or the beginning of its UUID."""
        return name == str(self.index) or self.uuid.startswith(name)


class GpuSampler:
    """Samples in a thread of its own, until stopped or until the process ends."""

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._names = [] if os.environ.get("DS_ACCELERATOR") == "cpu" else named_gpus(os.environ)
        self._samples: list[GpuSample] = []
        self._latest: list[dict[str, Any]] = []
        self._lock, self._stop = threading.Lock(), threading.Event()

    def start(self, listener: Callable[[list[GpuSample]], None] = lambda samples: None) -> None:
        """Begin, where there is anything to sample; ``listener`` gets each moment's samples, in its thread."""
        if self._names != [] and shutil.which("nvidia-smi"):
            threading.Thread(target=self._run, args=[listener], name="gpu-sampler", daemon=True).start()

    def stop(self) -> None:
        """Take no more samples."""
        self._stop.set()

    def take(self) -> list[dict[str, Any]]:
        """Each GPU's samples since the last call in one record; the last record again where there is none newer."""
        with self._lock:
            samples, self._samples = self._samples, []
        if samples:
            self._latest = summarize_samples(samples)
        return self._latest

    def _run(self, listener: Callable[[list[GpuSample]], None]) -> None:
        while not self._stop.wait(self._interval):  # first a pause: at the start the GPUs are idle
            found = [gpu for gpu in query_gpus() if self._names is None or any(map(gpu.is_named, self._names))]
            with self._lock:
                self._samples += found
            listener(found)


def query_gpus() -> list[GpuSample]:
    """One sample of every GPU, or an empty list where that cannot be had."""
    command = ["nvidia-smi", _QUERY, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split(", ", 5) for line in done.stdout.decode(errors="replace").splitlines()]
    whole = [row for row in rows if len(row) == 6 and row[0].isdecimal()]
    return [GpuSample(int(row[0]), *map(_number, row[2:5]), name=row[5].strip(), uuid=row[1]) for row in whole]


def summarize_samples(samples: Iterable[GpuSample]) -> list[dict[str, Any]]:
    """A record for each GPU: mean utilization (percent), most memory in use and its total (MiB)."""
    by_index: dict[int, list[GpuSample]] = {}
    for sample in samples:
        by_index.setdefault(sample.index, []).append(sample)
    records = []
    for index, group in sorted(by_index.items()):
        uses = [sample.utilization for sample in group if sample.utilization is not None]
        memory = [sample.memory_mib for sample in group if sample.memory_mib is not None]
        records.append(
            {
                "index": index,
                "utilization": round(fmean(uses), 1) if uses else None,
                "memory_mib": max(memory, default=None),
                "memory_total_mib": group[-1].memory_total_mib,
            }
        )
    return records


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
        numbers = numbers_of(names)
        write = f"CUDA_VISIBLE_DEVICES={','.join(map(str, numbers))}" if len(numbers) == len(names) else "their numbers"
        raise SocratesError(f"{value} does not name GPUs by number; write {write} (nvidia-smi -L lists them)")
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


def numbers_of(names: Iterable[str]) -> list[int]:
    """The numbers of GPUs that are named by number or by (the beginning of) their UUID, up to one that is not here."""
    gpus = query_gpus()
    found = (next((gpu.index for gpu in gpus if gpu.is_named(name)), None) for name in names)
    return [number for number in takewhile(lambda number: number is not None, found) if number is not None]


def _number(text: str) -> float | None:
    try:
        return finite(float(text), 0, 1e9)
    except ValueError:  # "[N/A]"
        return None
