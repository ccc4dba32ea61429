"""Records of the guide's phases: GO or NO-GO of phase 1, PASS or FAIL of phase 2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from socrates.errors import SocratesError
from socrates.files import read_json

VALIDATION_RUN = "socrates-qwen-500step-validation"  # phase 1
TEST_RUN = "socrates-qwen-test-run"  # phase 2
RESULTS = "evaluation_results"
VERIFICATION = "verification.json"  # what scripts/verify_test_run.sh decided


@dataclass(frozen=True)
class PhaseRecord:
    """What one phase came to.

    Attributes:
        name: the phase and its question.
        passed: True GO or PASS, False the contrary, None if nothing readable, or nothing that counts, is on record.
        text: the record in words, or how to get one.
    """

    name: str
    passed: bool | None
    text: str


def phase_records(root: Path) -> list[PhaseRecord]:
    """The records of phases 1 and 2 in a project's folder; of several decisions the newest counts."""
    return [_validation(root / RESULTS / VALIDATION_RUN), _infrastructure(root / RESULTS / TEST_RUN / VERIFICATION)]


def _validation(folder: Path) -> PhaseRecord:
    name = "Phase 1 (is the model learning?)"
    decisions = sorted(folder.glob("*/decision.json"), key=lambda path: path.stat().st_mtime)
    if not decisions:
        return PhaseRecord(name, None, "no decision on record; ./scripts/evaluate_checkpoint.sh makes one")
    try:
        record = read_json(decisions[-1], "decision")
    except SocratesError as error:
        return PhaseRecord(name, None, str(error))
    decision = record.get("decision")
    text = f"{decision}, improvement {record.get('improvement_printed')} ({decisions[-1]})"
    contaminated = record.get("rows_seen")
    if isinstance(contaminated, dict) and any(contaminated.values()):
        return PhaseRecord(name, None, f"{text}, but on rows that the model may have been trained on (--allow-seen)")
    return PhaseRecord(name, {"GO": True, "NO-GO": False}.get(str(decision)), text)


def _infrastructure(path: Path) -> PhaseRecord:
    name = "Phase 2 (does the infrastructure work?)"
    if not path.is_file():
        return PhaseRecord(name, None, "no verdict on record; ./scripts/verify_test_run.sh makes one")
    try:
        verdict = read_json(path, "verification").get("verdict")
    except SocratesError as error:
        return PhaseRecord(name, None, str(error))
    return PhaseRecord(name, {"PASS": True, "FAIL": False}.get(str(verdict)), f"{verdict} ({path})")


def main() -> int:
    """Print a line for each phase; 0 if both passed."""
    records = phase_records(Path())
    for record in records:
        print(f"{record.name}: {record.text}")
    return 0 if all(record.passed for record in records) else 1
