"""A check of preflight, their report, and the checks of the installed software.

Covers: also Pythons that are too old for the rest of this project; so no newer syntax here.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
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
    """The report: a line a check, its remedy under it."""
    lines = []
    for check in checks:
        lines.append(f"  [{check.outcome}] {check.name}: {check.text}")
        if check.remedy:
            lines.append(f"         -> {check.remedy}")
    return "\n".join(lines)


def failed(checks: list[Check]) -> bool:
    """Whether any check failed."""
    return any(check.outcome == FAIL for check in checks)


def gib(number: float) -> str:
    """Bytes for people."""
    return f"{number / GIB:.1f} GiB" if number >= GIB / 10 else f"{number / 2**20:.1f} MiB"


def check_software(requirements: Path) -> list[Check]:
    """Python and, where it is one of those that they exist for (3.11 to 3.13), the pinned packages."""
    version = sys.version.split()[0]
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return [Check("Python", FAIL, version, "install Python 3.11, 3.12 or 3.13")]
    return [Check("Python", PASS, version), check_packages(requirements)]


def check_packages(requirements: Path) -> Check:
    """Each pinned package is installed; another version than the pinned one is a warning."""
    try:
        pins = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", requirements.read_text(encoding="utf-8"), re.MULTILINE))
    except OSError as error:
        return Check("packages", FAIL, f"{requirements.name}: {error.strerror}", f"upload {requirements.name}")
    wrong, missing = [], False
    for name, pin in pins.items():
        try:
            found = importlib.metadata.version(name).split("+")[0]  # 2.13.0+cpu is 2.13.0
        except importlib.metadata.PackageNotFoundError:
            found, missing = "missing", True
        if found != pin:
            wrong.append(f"{name} {found} (pinned {pin})")
    if wrong:
        return Check("packages", FAIL if missing else WARN, ", ".join(wrong), f"pip install -r {requirements.name}")
    return Check("packages", PASS, f"{len(pins)} as pinned")
