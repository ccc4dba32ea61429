"""Preflight of the GPUs: number, driver, bf16. Does not cover: other programs on them, and the machine's own memory."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from socrates.config import RunConfig
from socrates.errors import SocratesError
from socrates.machine.preflight.checks import FAIL, GIB, PASS, REQUIREMENTS, WARN, Check
from socrates.telemetry.gpus import gpu_numbers, named_gpus, numbers_of

_FIELDS = "index,name,memory.total,driver_version,compute_cap"
_GPU = re.compile(r"^(\d+), (.+), (\d+), (\S+), (\d+\.\d+)$", re.MULTILINE)
_AMPERE = 8.0  # the first compute capability whose tensor cores know bf16


@dataclass(frozen=True)
class Gpu:
    """One GPU, as nvidia-smi names it."""

    index: int
    name: str
    memory_bytes: int
    driver: str
    capability: float


def uses_cpus() -> bool:
    """Whether the training is to run on CPUs on purpose."""
    return os.environ.get("DS_ACCELERATOR") == "cpu"


def find_gpus() -> list[Gpu]:
    """The GPUs that nvidia-smi lists and CUDA_VISIBLE_DEVICES leaves; none where there is no nvidia-smi."""
    found = _GPU.findall(_output_of(("nvidia-smi", f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits")))
    gpus = [Gpu(int(i), name, int(mib) * 2**20, driver, float(cap)) for i, name, mib, driver, cap in found]
    names = named_gpus(os.environ)
    if names is None:
        return gpus
    visible = [int(name) for name in names] if all(name.isdecimal() for name in names) else numbers_of(names)
    return [gpu for gpu in gpus if gpu.index in visible]


def check_gpus(gpus: list[Gpu], config: RunConfig | None) -> Iterator[Check]:
    """As many GPUs as the config has processes, a driver that the installed torch can use, and bf16."""
    wanted = config.training.num_processes if config else 0
    if uses_cpus():
        yield Check("GPUs", WARN, "DS_ACCELERATOR=cpu: trains on CPUs on purpose", "unset it to use GPUs")
        return
    kinds = sorted({f"{gpu.name} ({gpu.memory_bytes / GIB:.0f} GiB)" for gpu in gpus})
    found = f"{len(gpus)} x {', '.join(kinds)}, driver {gpus[0].driver}" if gpus else "none"
    if not gpus or len(gpus) < wanted:
        needs = f"; the config has {wanted} processes" if wanted else ""
        yield Check("GPUs", FAIL, found + needs, _remedy(len(gpus), config))
        return
    try:
        gpu_numbers(os.environ, wanted)
        yield Check("GPUs", PASS, found + (f"; {wanted} are used" if wanted else ""))
    except SocratesError as error:  # the training would refuse it
        problem, _, remedy = str(error).partition("; ")
        yield Check("GPUs", FAIL, f"{found}; {problem}", remedy)
    yield check_driver(driver_cuda(), torch_cuda())
    if config is not None and config.training.bf16:
        yield _check_bf16(gpus[:wanted])


def check_driver(driver_cuda: tuple[int, int] | None, torch_cuda: tuple[int, int] | None) -> Check:
    """A driver runs programs built for its own major CUDA version and older ones."""
    if torch_cuda is None:
        return Check("CUDA", FAIL, "the installed torch has no CUDA", f"pip install -r {REQUIREMENTS} on this machine")
    built = f"torch is built for CUDA {torch_cuda[0]}.{torch_cuda[1]}"
    if driver_cuda is None:
        return Check("CUDA", WARN, f"{built}; nvidia-smi does not tell what the driver can")
    text = f"{built}, the driver can {driver_cuda[0]}.{driver_cuda[1]}"
    if driver_cuda[0] < torch_cuda[0]:
        return Check("CUDA", FAIL, text, "a newer driver, another machine image, or a torch built for this CUDA")
    return Check("CUDA", PASS, text)


def driver_cuda() -> tuple[int, int] | None:
    """The CUDA version up to which the driver can."""
    return _version(r"CUDA Version:\s*(\d+)\.(\d+)", _output_of(("nvidia-smi",)))


def torch_cuda() -> tuple[int, int] | None:
    """What CUDA the installed torch is built for, read from its version file: importing it takes seconds."""
    spec = importlib.util.find_spec("torch")
    file = Path(spec.origin).parent / "version.py" if spec and spec.origin else None
    text = file.read_text(encoding="utf-8") if file and file.is_file() else ""
    return _version(r"^cuda\b[^=\n]*=\s*'(\d+)\.(\d+)", text)


def _check_bf16(gpus: list[Gpu]) -> Check:
    without = sorted({f"{gpu.name} ({gpu.capability})" for gpu in gpus if gpu.capability < _AMPERE})
    if not without:
        return Check("bf16", PASS, f"compute capability {min(gpu.capability for gpu in gpus)}")
    remedy = (
        "rent GPUs with compute capability 8.0 or more (A100, L40S, H100), or write "
        '"bf16": false in "training" (fp32: twice the memory, and slow)'
    )
    return Check("bf16", FAIL, f"not on {', '.join(without)}", remedy)


def _remedy(found: int, config: RunConfig | None) -> str:
    remedy = "look at nvidia-smi, CUDA_VISIBLE_DEVICES, or rent another machine"
    if config is None or not found:
        return remedy
    batch = config.training.global_batch_size
    fitting = max(number for number in range(1, found + 1) if batch % number == 0)
    return f'{remedy}; or write "num_processes": {fitting} in "training" (a step stays {batch} examples)'


def _output_of(command: tuple[str, ...]) -> str:
    """What a program prints; nothing where it is missing, fails or hangs."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _version(pattern: str, text: str) -> tuple[int, int] | None:
    match = re.search(pattern, text, re.MULTILINE)
    return (int(match[1]), int(match[2])) if match else None
