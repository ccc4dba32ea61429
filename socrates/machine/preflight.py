"""Whether a machine can carry a run, asked before the run costs money: software, GPUs, disk, data, token.

Covers: what would stop the run or make it another one, each as one line with its remedy. Does not cover: whether the
model fits into the GPUs' memory; how long the run takes.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from socrates.config import RunConfig
from socrates.errors import SocratesError
from socrates.files import read_json
from socrates.machine.sizes import checkpoint_bytes, download_bytes
from socrates.prepared import sha256_of_part

PASS, WARN, FAIL = "pass", "warn", "FAIL"
REQUIREMENTS = "requirements_full_training.txt"
CODE = Path(__file__).resolve().parents[2]
_GIB = 2**30


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    outcome: Literal["pass", "warn", "FAIL"]
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Gpu:
    """One GPU, as nvidia-smi names it."""

    index: int
    name: str
    memory_mib: int
    driver: str


def run_checks(root: Path, config: RunConfig | None) -> list[Check]:
    """Every check, in the order in which a person would put things right.

    Args:
        root: the project's folder on the machine, the current folder of a run.
        config: the run; None checks the machine alone.
    """
    checks = [check_python(), check_packages(CODE / REQUIREMENTS), *check_gpus(find_gpus(), config)]
    if config is None:
        return [*checks, check_free_disk(root)]
    steps = planned_steps(config, root)
    return [*checks, *check_data(config, root), check_disk(config, root, steps), check_token(config, root)]


def check_python() -> Check:
    """The pinned packages exist for Python 3.11 to 3.13."""
    version = sys.version.split()[0]
    good = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Check("Python", PASS if good else FAIL, version, "" if good else "install Python 3.11, 3.12 or 3.13")


def check_packages(requirements: Path) -> Check:
    """Each pinned package is installed; another version than the pinned one is a warning."""
    try:
        pins = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", requirements.read_text(encoding="utf-8"), re.MULTILINE))
    except OSError as error:
        return Check("packages", FAIL, f"{requirements.name}: {error.strerror}", f"upload {requirements.name}")
    wrong = [(name, found, pin) for name, pin, found in _installed(pins) if found != pin]
    if wrong:
        text = ", ".join(f"{name} {found or 'missing'} (pinned {pin})" for name, found, pin in wrong)
        missing = any(found is None for _, found, _ in wrong)
        return Check("packages", FAIL if missing else WARN, text, f"pip install -r {requirements.name}")
    return Check("packages", PASS, f"{len(pins)} as pinned")


def find_gpus() -> list[Gpu]:
    """The GPUs that nvidia-smi lists and CUDA_VISIBLE_DEVICES leaves; none where there is no nvidia-smi."""
    text = _output(
        ["nvidia-smi", "--query-gpu=index,name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    )
    gpus = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 4 and fields[0].isdigit() and fields[2].isdigit():
            gpus.append(Gpu(int(fields[0]), fields[1], int(fields[2]), fields[3]))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not re.fullmatch(r"[0-9, ]*", visible):  # UUIDs are left to CUDA
        return gpus
    return [gpu for gpu in gpus if gpu.index in {int(i) for i in visible.split(",") if i.strip()}]


def check_gpus(gpus: list[Gpu], config: RunConfig | None) -> Iterator[Check]:
    """As many GPUs as the config has processes, and a driver that is new enough for the installed torch."""
    wanted = config.training.num_processes if config else 0
    if os.environ.get("DS_ACCELERATOR") == "cpu":
        yield Check("GPUs", WARN, "DS_ACCELERATOR=cpu: trains on CPUs on purpose", "unset it to use GPUs")
        return
    kinds = sorted({f"{gpu.name} ({gpu.memory_mib / 1024:.0f} GiB)" for gpu in gpus})
    found = f"{len(gpus)} x {', '.join(kinds)}, driver {gpus[0].driver}" if gpus else "none"
    if not gpus or len(gpus) < wanted:
        needs = f"; the config has {wanted} processes" if wanted else ""
        yield Check("GPUs", FAIL, found + needs, "look at nvidia-smi, CUDA_VISIBLE_DEVICES, or rent another machine")
        return
    yield Check("GPUs", PASS, found + (f"; {wanted} are used" if wanted else ""))
    yield check_driver(_driver_cuda(), _torch_cuda())


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


def check_data(config: RunConfig, root: Path) -> Iterator[Check]:
    """The files to train and to judge on are there, not empty, and those that the set's metadata describe."""
    for file, needed in ((config.train_file, True), (config.evaluation_file, False)):
        path = root / file
        remedy = f"tnr scp 0 {config.dataset_path}/ ~/socrates-training/{config.dataset_path}/"
        if not path.is_file() or not path.stat().st_size:
            state = "is empty" if path.is_file() else "is not there"
            yield Check("data", FAIL if needed else WARN, f"{file} {state}", remedy)
            continue
        try:
            sha256_of_part(path)  # remembered beside the file: a training then starts at once
        except SocratesError as error:
            yield Check("data", FAIL, str(error), remedy)
        else:
            yield Check("data", PASS, f"{file}: {_size(path.stat().st_size)}")


def planned_steps(config: RunConfig, root: Path) -> int | None:
    """Optimizer steps of the whole run; None while the data is not there.

    Raises:
        SocratesError: metadata.json is there and malformed.
    """
    if config.training.max_steps:
        return config.training.max_steps
    path, metadata = root / config.train_file, root / config.dataset_path / "metadata.json"
    rows = read_json(metadata, "data set's metadata").get("rows") if metadata.is_file() else None
    count = rows.get("train") if isinstance(rows, dict) else None
    if not isinstance(count, int):
        if not path.is_file():
            return None
        with path.open("rb") as file:
            count = sum(1 for _ in file)
    per_epoch = math.ceil(count / config.training.global_batch_size)
    return max(1, math.ceil(config.training.num_train_epochs * per_epoch))


def check_free_disk(root: Path) -> Check:
    """How much disk is free, where no run says how much it needs."""
    return Check("disk", PASS, f"{_size(shutil.disk_usage(root).free)} free")


def check_disk(config: RunConfig, root: Path, steps: int | None) -> Check:
    """Room for every checkpoint that is still to come (none is ever deleted) and for the model's download."""
    free = shutil.disk_usage(root).free
    each = checkpoint_bytes(config, root)
    if each is None or steps is None:
        why = "the model's shape is not known here" if each is None else "the data is not there yet"
        return Check("disk", WARN, f"{_size(free)} free; what the checkpoints need is unknown: {why}")
    total = -(-steps // config.training.save_steps)
    output = root / config.output_dir
    done = sum(1 for _ in output.glob("checkpoint-*/manifest.json")) if output.is_dir() else 0
    need = max(total - done, 0) * each
    text = f"{_size(free)} free; {max(total - done, 0)} checkpoints of about {_size(each)} are to come"
    download = download_bytes(config, root)
    if download:
        need += download
        text += f", and the model's download of about {_size(download)}"
    if free < need:
        return Check("disk", FAIL, f"{text}: {_size(need)}", "free some space, rent a larger disk, or raise save_steps")
    return Check("disk", PASS, text)


def check_token(config: RunConfig, root: Path) -> Check:
    """HF_TOKEN is there, if the model comes from the hub; its value is never looked at beyond its form."""
    if (root / config.model_name).is_dir():
        return Check("HF_TOKEN", PASS, f"not needed: {config.model_name} is a folder")
    if not os.environ.get("HF_TOKEN"):
        return Check("HF_TOKEN", WARN, "not set: downloads are slower, and gated models fail", 'export HF_TOKEN="hf_…"')
    return Check("HF_TOKEN", PASS, "set")


def render(checks: list[Check]) -> str:
    """The report for people: a line a check, its remedy under it."""
    lines = []
    for check in checks:
        lines.append(f"  [{check.outcome}] {check.name}: {check.text}")
        if check.remedy and check.outcome != PASS:
            lines.append(f"         -> {check.remedy}")
    return "\n".join(lines)


def _installed(pins: dict[str, str]) -> Iterator[tuple[str, str, str | None]]:
    for name, pin in pins.items():
        try:
            found = importlib.metadata.version(name).split("+")[0]  # 2.13.0+cpu is 2.13.0
        except importlib.metadata.PackageNotFoundError:
            found = None
        yield name, pin, found


def _driver_cuda() -> tuple[int, int] | None:
    return _version(r"CUDA Version:\s*(\d+)\.(\d+)", _output(["nvidia-smi"]))


def _torch_cuda() -> tuple[int, int] | None:
    """What CUDA the installed torch is built for, read from its version file: importing it takes seconds."""
    spec = importlib.util.find_spec("torch")
    file = Path(spec.origin).parent / "version.py" if spec and spec.origin else None
    text = file.read_text(encoding="utf-8") if file and file.is_file() else ""
    return _version(r"^cuda\b[^=\n]*=\s*'(\d+)\.(\d+)", text)


def _version(pattern: str, text: str) -> tuple[int, int] | None:
    match = re.search(pattern, text, re.MULTILINE)
    return (int(match[1]), int(match[2])) if match else None


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _size(number: float) -> str:
    return f"{number / _GIB:.1f} GiB" if number >= _GIB / 10 else f"{number / 2**20:.1f} MiB"


def to_json(checks: list[Check]) -> str:
    """The report for programs."""
    return json.dumps([vars(check) for check in checks], indent=2, ensure_ascii=False)


def failed(checks: list[Check]) -> bool:
    """Whether any check failed."""
    return any(check.outcome == FAIL for check in checks)


def fitting_configs(root: Path, processes: int) -> list[str]:
    """Which of the guide's configs count on at most this many GPUs."""
    names = []
    for path in sorted(root.glob("config_*.json")):
        try:
            training = read_json(path, "config").get("training")
        except SocratesError:
            continue
        wanted = training.get("num_processes") if isinstance(training, dict) else None
        if isinstance(wanted, int) and wanted <= processes:
            names.append(path.name)
    return names
