"""Records of the guide's phases: GO or NO-GO of phase 1, PASS or FAIL of phase 2."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from socrates.errors import SocratesError, escaped
from socrates.files import read_json

VALIDATION_RUN = "socrates-qwen-500step-validation"  # phase 1
TEST_RUN = "socrates-qwen-test-run"  # phase 2
RESULTS = "evaluation_results"
VERIFICATION = "verification.json"  # what scripts/verify_test_run.sh decided
_PASSED = {"GO": True, "PASS": True, "NO-GO": False, "FAIL": False}


class PhaseRecord(NamedTuple):
    """What one phase came to."""

    name: str  # the phase and its question
    passed: bool | None  # GO or PASS; None if nothing readable, or nothing that counts, is on record
    text: str  # the record in words, or how to get one


def phase_records(root: Path) -> list[PhaseRecord]:
    """The records of phases 1 and 2 in a project's folder; of several decisions the newest counts."""
    decisions = (root / RESULTS / VALIDATION_RUN).glob("*/decision.json")
    verdicts = (root / RESULTS / TEST_RUN).glob(VERIFICATION)
    return [
        _newest("Phase 1 (is the model learning?)", decisions, "decision", "evaluate_checkpoint.sh"),
        _newest("Phase 2 (does the infrastructure work?)", verdicts, "verdict", "verify_test_run.sh"),
    ]


def _newest(name: str, paths: Iterable[Path], key: str, script: str) -> PhaseRecord:
    path = max(paths, key=lambda path: path.stat().st_mtime, default=None)
    if path is None:
        return PhaseRecord(name, None, f"no {key} on record; ./scripts/{script} makes one")
    try:
        record = read_json(path, key)
    except SocratesError as error:
        return PhaseRecord(name, None, str(error))
    improvement = f", improvement {record['improvement_printed']}" if "improvement_printed" in record else ""
    text = f"{record.get(key)}{improvement} ({path})"
    contaminated = record.get("rows_seen")
    if isinstance(contaminated, dict) and any(contaminated.values()):
        return PhaseRecord(name, None, f"not counted: {text}: on rows that it was trained on (--allow-seen)")
    return PhaseRecord(name, _PASSED.get(str(record.get(key))), text)


def main() -> int:
    """Print a line for each phase; 0 if both passed."""
    records = phase_records(Path())
    for record in records:
        print(escaped(f"{record.name}: {record.text}"))
    return 0 if all(record.passed for record in records) else 1
