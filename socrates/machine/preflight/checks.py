"""Preflight check and report, for people and for programs; and the checks of the installed software.

Covers: also Pythons that are too old for the rest of this project; so no newer syntax here.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PASS, WARN, FAIL = "pass", "warn", "FAIL"
GIB = 2**30
REQUIREMENTS = "requirements_full_training.txt"


@dataclass(frozen=True)
class Check:
    """What was looked at, what was found, and what to do about it."""

    name: str
    outcome: Literal["pass", "warn", "FAIL"]
    text: str
    remedy: str = ""


def report_text(checks: list[Check]) -> str:
    """The report for people: a line a check, its remedy under it."""
    lines = []
    for check in checks:
        lines.append(f"  [{check.outcome}] {check.name}: {check.text}")
        if check.remedy and check.outcome != PASS:
            lines.append(f"         -> {check.remedy}")
    return "\n".join(lines)


def to_json(checks: list[Check]) -> str:
    """The report for programs."""
    return json.dumps([vars(check) for check in checks], indent=2, ensure_ascii=False)


def failed(checks: list[Check]) -> bool:
    """Whether any check failed."""
    return any(check.outcome == FAIL for check in checks)


def gib(number: float) -> str:
    """Bytes for people."""
    return f"{number / GIB:.1f} GiB" if number >= GIB / 10 else f"{number / 2**20:.1f} MiB"


def output_of(command: list[str]) -> str:
    """What a program prints; nothing where it is missing, fails or hangs."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


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


def is_installed(module: str) -> bool:
    """Whether a module could be imported; it is not."""
    return importlib.util.find_spec(module) is not None


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
    return _version(r"CUDA Version:\s*(\d+)\.(\d+)", output_of(["nvidia-smi"]))


def torch_cuda() -> tuple[int, int] | None:
    """What CUDA the installed torch is built for, read from its version file: importing it takes seconds."""
    spec = importlib.util.find_spec("torch")
    file = Path(spec.origin).parent / "version.py" if spec and spec.origin else None
    text = file.read_text(encoding="utf-8") if file and file.is_file() else ""
    return _version(r"^cuda\b[^=\n]*=\s*'(\d+)\.(\d+)", text)


def _installed(pins: dict[str, str]) -> Iterator[tuple[str, str, str | None]]:
    for name, pin in pins.items():
        try:
            found = importlib.metadata.version(name).split("+")[0]  # 2.13.0+cpu is 2.13.0
        except importlib.metadata.PackageNotFoundError:
            found = None
        yield name, pin, found


def _version(pattern: str, text: str) -> tuple[int, int] | None:
    match = re.search(pattern, text, re.MULTILINE)
    return (int(match[1]), int(match[2])) if match else None
