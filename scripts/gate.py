#!/usr/bin/env python3
r"""Decide whether a checkpoint is enough better than the baseline to go on.

    python scripts/gate.py evaluation_results/baseline/metrics.json \
        evaluation_results/socrates-qwen-500step-validation/checkpoint-500/metrics.json --output decision.json

The improvement's 95% interval comes from the cells.jsonl beside both files.
Exit status: 0 GO, 1 NO-GO, 2 there is no decision (wrong input, or results that must not be compared).
"""

from __future__ import annotations

import _bootstrap  # noqa: F401

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from socrates.errors import EXIT_DONE, EXIT_NO, SocratesError, escaped, make_parser, run_entry_point


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, decide, print and record."""
    parser = make_parser(__doc__)
    parser.add_argument("baseline", metavar="BASELINE_METRICS", type=Path, help="metrics.json of the baseline")
    parser.add_argument("checkpoint", metavar="CHECKPOINT_METRICS", type=Path, help="... of the checkpoint")
    parser.add_argument("--output", type=Path, metavar="FILE", help="record the decision as JSON")
    parser.add_argument(
        "--require-significant",
        action="store_true",
        help="GO only if the whole 95%% interval is at the threshold or above",
    )
    arguments = parser.parse_args(argv)

    from socrates.evaluation.gate import GO, check_comparable, decide, decision_text
    from socrates.evaluation.improvement import results_improvement
    from socrates.evaluation.results import read_metrics
    from socrates.files import is_same_file, remove_file, write_json

    inputs = {"baseline": arguments.baseline, "checkpoint": arguments.checkpoint}
    if arguments.output and any(is_same_file(arguments.output, path) for path in inputs.values()):
        raise SocratesError(f"--output {arguments.output} would overwrite what is compared; choose another name")
    if is_same_file(*inputs.values()):
        raise SocratesError(f"{arguments.baseline}: baseline and checkpoint are the same file")
    if arguments.output:
        check_is_decision(arguments.output)
        remove_file(arguments.output)  # an earlier decision must not outlive a failure of this one
    metrics = {role: read_metrics(path, f"{role} metrics") for role, path in inputs.items()}
    names = (str(arguments.baseline), str(arguments.checkpoint))
    compared = check_comparable(**metrics, names=names)
    interval = results_improvement(tuple(inputs.values()), compared)
    decision = decide(*compared, interval=interval, require_significant=arguments.require_significant)
    text = decision_text(decision)
    if arguments.output:  # before GO is said: a decision that cannot be recorded is none
        write_json(arguments.output, {**decision.model_dump(), **_circumstances(inputs)})
    print(escaped(text), flush=True)
    return EXIT_DONE if decision.decision == GO else EXIT_NO


def check_is_decision(path: Path) -> None:
    """SocratesError where a file is to be replaced that no gate wrote."""
    from socrates.files import read_json

    with suppress(SocratesError):
        if "decision" in read_json(path):
            return
    if path.is_file():
        raise SocratesError(f"--output {path}: holds something that is no decision; choose another name")


def _circumstances(inputs: dict[str, Path]) -> dict[str, object]:
    from datetime import UTC, datetime

    from socrates.files import sha256_file

    return {
        "inputs": {role: {"path": str(path), "sha256": sha256_file(path)} for role, path in inputs.items()},
        "decided_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


if __name__ == "__main__":
    run_entry_point(main)
