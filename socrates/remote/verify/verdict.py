"""Verdict of the infrastructure test: criteria to PASS or FAIL, a checklist and a record.

Covers: anything unmet fails the test, and what was not measured leaves it undecided. Does not cover: how a criterion is
decided; see `criteria.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from socrates.errors import EXIT_CANNOT, EXIT_DONE, EXIT_NO

PASS, FAIL, NOT_DECIDED = "PASS", "FAIL", "NOT DECIDED"
EXIT = {PASS: EXIT_DONE, FAIL: EXIT_NO, NOT_DECIDED: EXIT_CANNOT}


@dataclass(frozen=True)
class Criterion:
    """One line of the guide's checklist.

    Attributes:
        met: None if it was not measured; then ``why_not`` says why.
        evidence: what decided it, a line each.
    """

    text: str
    met: bool | None
    evidence: tuple[str, ...] = ()
    why_not: str = ""


def verdict(criteria: Sequence[Criterion]) -> str:
    """FAIL with anything unmet, NOT DECIDED with anything not measured, else PASS."""
    if any(criterion.met is False for criterion in criteria):
        return FAIL
    return NOT_DECIDED if any(criterion.met is None for criterion in criteria) else PASS


def checklist(criteria: Sequence[Criterion]) -> str:
    """The guide's checklist with the evidence under each line, and the verdict."""
    lines = []
    for criterion in criteria:
        why = f" (not measured: {criterion.why_not})" if criterion.met is None else ""
        lines.append(f"- [{'x' if criterion.met else ' '}] {criterion.text}{why}")
        lines += [f"      {line}" for line in criterion.evidence]
    unmet = [criterion.text for criterion in criteria if criterion.met is False]
    unknown = sum(criterion.met is None for criterion in criteria)
    decided = verdict(criteria)
    measured = f"{unknown} {'criterion' if unknown == 1 else 'criteria'} not measured"
    tail = {
        PASS: PASS,
        FAIL: f"{FAIL}: {len(unmet)} of {len(criteria)} not met: {'; '.join(unmet)}",
        NOT_DECIDED: f"{NOT_DECIDED}: {measured}",
    }
    return "\n".join([*lines, "", tail[decided]])


def record(criteria: Sequence[Criterion], **circumstances: Any) -> dict[str, Any]:
    """What `verification.json` says."""
    return {
        "verdict": verdict(criteria),
        "criteria": [
            {
                "text": c.text,
                "met": c.met,
                "evidence": [*c.evidence, *([f"not measured: {c.why_not}"] if c.met is None else [])],
            }
            for c in criteria
        ],
        **circumstances,
    }
