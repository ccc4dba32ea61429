"""One line of preflight's report, and the report for people and for programs.

Covers: also Pythons that are too old for the rest of this project; so no newer syntax here.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Literal

PASS, WARN, FAIL = "pass", "warn", "FAIL"
GIB = 2**30


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
