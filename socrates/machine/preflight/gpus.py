"""The machine's GPUs, as `nvidia-smi` lists them: enough of them, with bf16, and a driver that is new enough."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from socrates.config import RunConfig
from socrates.errors import SocratesError
from socrates.machine.preflight.checks import FAIL, PASS, WARN, Check, output_of
from socrates.machine.preflight.software import check_driver, driver_cuda, torch_cuda
from socrates.telemetry.gpus import gpu_numbers, named_gpus, numbers_of

_FIELDS = "index,name,memory.total,driver_version"
_AMPERE = (8, 0)  # the first compute capability whose tensor cores know bf16


@dataclass(frozen=True)
class Gpu:
    """One GPU, as nvidia-smi names it."""

    index: int
    name: str
    memory_mib: int
    driver: str
    capability: tuple[int, int] | None = None  # None: this nvidia-smi does not tell

    @property
    def memory_bytes(self) -> int:
        """All of its memory."""
        return self.memory_mib * 2**20


def uses_cpus() -> bool:
    """Whether the training is to run on CPUs on purpose."""
    return os.environ.get("DS_ACCELERATOR") == "cpu"


def find_gpus() -> list[Gpu]:
    """The GPUs that nvidia-smi lists and CUDA_VISIBLE_DEVICES leaves; none where there is no nvidia-smi."""
    gpus = []
    for fields in (f"{_FIELDS},compute_cap", _FIELDS):  # old ones do not know compute_cap and list nothing then
        text = output_of(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"])
        gpus = [gpu for line in text.splitlines() if (gpu := _parse(line))]
        if gpus:
            break
    names = named_gpus(os.environ)
    if names is None:
        return gpus
    visible = [int(name) for name in names] if all(name.isdecimal() for name in names) else numbers_of(names)
    return [gpu for gpu in gpus if gpu.index in visible]


def check_gpus(gpus: list[Gpu], config: RunConfig | None) -> Iterator[Check]:
    """As many GPUs as the config has processes, that know bf16, and a driver that the installed torch can use."""
    wanted = config.training.num_processes if config else 0
    if uses_cpus():
        yield Check("GPUs", WARN, "DS_ACCELERATOR=cpu: trains on CPUs on purpose", "unset it to use GPUs")
        return
    kinds = sorted({f"{gpu.name} ({gpu.memory_mib / 1024:.0f} GiB)" for gpu in gpus})
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


def _check_bf16(gpus: list[Gpu]) -> Check:
    unknown = [gpu for gpu in gpus if gpu.capability is None]
    without = sorted(
        {f"{gpu.name} ({_dotted(gpu.capability)})" for gpu in gpus if gpu.capability and gpu.capability < _AMPERE}
    )
    if without:
        remedy = (
            "rent GPUs with compute capability 8.0 or more (A100, L40S, H100), or write "
            '"bf16": false in "training" (fp32: twice the memory, and slow)'
        )
        return Check("bf16", FAIL, f"not on {', '.join(without)}", remedy)
    if unknown:
        return Check("bf16", WARN, "nvidia-smi does not tell the compute capability", "8.0 or more is needed")
    return Check("bf16", PASS, f"compute capability {_dotted(min(g.capability for g in gpus if g.capability))}")


def _remedy(found: int, config: RunConfig | None) -> str:
    remedy = "look at nvidia-smi, CUDA_VISIBLE_DEVICES, or rent another machine"
    if config is None or not found:
        return remedy
    batch = config.training.global_batch_size
    fitting = max(number for number in range(1, found + 1) if batch % number == 0)
    return f'{remedy}; or write "num_processes": {fitting} in "training" (a step stays {batch} examples)'


def _parse(line: str) -> Gpu | None:
    fields = [field.strip() for field in line.split(",")]
    if len(fields) not in (4, 5) or not fields[0].isdigit() or not fields[2].isdigit():
        return None
    match = re.fullmatch(r"(\d+)\.(\d+)", fields[4]) if len(fields) == 5 else None
    capability = (int(match[1]), int(match[2])) if match else None
    return Gpu(int(fields[0]), fields[1], int(fields[2]), fields[3], capability)


def _dotted(capability: tuple[int, int] | None) -> str:
    return f"{capability[0]}.{capability[1]}" if capability else "unknown"
