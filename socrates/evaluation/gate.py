"""Two metrics in, one decision out: GO, NO-GO, or an error that says why the two cannot be compared.

Does not cover: how the interval is made (`intervals.py`), or whether the metrics themselves are right.

Numbers are compared as exact fractions of the decimals that stand in the files: 0.400 -> 0.380 is an
improvement of 5% here, and of less in floating point.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from socrates.errors import SocratesError
from socrates.evaluation.results import EXTERNAL, Comparability, MetricsFile, check_metrics
from socrates.schema import shown

GO, NO_GO = "GO", "NO-GO"
THRESHOLD = 5  # percent, the guide's
ROLES = ("baseline", "checkpoint")
DISTANCE = "wasserstein_distance"

# What has to be equal, and what to do where it is not.
REMEDIES = {
    "data_sha256": "evaluate both on the same data file; of answers made elsewhere, give the same --human-answers FILE",
    "rows_sha256": "evaluate both on the same rows: same data file, --max-examples, rows_per_cell and seed; of answers "
    "made elsewhere, the same people, questions and human answers",
    "prompt_fingerprint": "evaluate both with the same chat template and system message",
    "decoding": "evaluate both with the same temperature and top_p",
    "seed": "evaluate both with the same seed",
    "metric_version": "evaluate the older one again with this version of the program",
}

# name, printed name, whether higher is better
SIGNALS = (
    ("mae", "MAE", False),
    ("rmse", "RMSE", False),
    ("correlation", "Correlation", True),
    ("correlation_within_cells", "Within cells", True),
    ("accuracy", "Accuracy", True),
    ("valid_mass", "Valid mass", True),
)

LITTLE_MASS = 0.5  # assumed: below it, most of what the model would say is no answer


@dataclass(frozen=True)
class Decision:
    """The decision and all that it stands on."""

    go: bool  # whether to go on
    improvement: Fraction  # percent, exact
    baseline: Fraction  # Wasserstein distance, in (0, 1]
    checkpoint: Fraction  # likewise, in [0, 1]
    interval: tuple[Fraction, Fraction] | None  # 95%, of the improvement, percent; None: not known
    require_significant: bool  # whether GO needs the interval above the threshold, too
    uniform_guess: Fraction  # what guessing scores on the same cells
    comparability: Mapping[str, Any]  # of both
    signals: Mapping[str, Mapping[str, Any]]  # printed name -> baseline, checkpoint (null: not defined), verdict
    rows_seen: Mapping[str, int]  # rows that each of the two may have been trained on
    notes: tuple[str, ...]  # what to look at before believing the decision; it does not depend on them

    @property
    def decision(self) -> str:
        """GO or NO-GO."""
        return GO if self.go else NO_GO

    @property
    def worse_than_uniform(self) -> bool:
        """Whether the checkpoint does no better than a uniform guess."""
        return self.checkpoint >= self.uniform_guess


def decide(
    baseline: MetricsFile,
    checkpoint: MetricsFile,
    *,
    interval: tuple[float, float] | None = None,
    require_significant: bool = False,
) -> Decision:
    """Decide whether the checkpoint is better than the baseline by at least `THRESHOLD` percent.

    Improvement = (1 - checkpoint / baseline) x 100 of `wasserstein_distance`; at the threshold is GO.

    Args:
        baseline: as `check_comparable` gives it.
        checkpoint: likewise.
        interval: 95% interval of the improvement, in percent (`intervals.results_improvement`); None: not known.
        require_significant: whether GO needs the whole interval at or above the threshold, too. Its limits count as
            they are recorded and printed, which is rounded to the digits that `bootstrap.intervals` gives.

    Raises:
        SocratesError: an interval is required and not known.
    """
    distances = _exact(baseline.wasserstein_distance), _exact(checkpoint.wasserstein_distance)
    improvement = (1 - distances[1] / distances[0]) * 100
    if require_significant and interval is None:
        raise SocratesError(
            "whether the improvement is significant cannot be told: it has no interval, which takes the cells.jsonl "
            "beside both metrics.json, and two cells at least"
        )
    limits = None if interval is None else (_exact(interval[0]), _exact(interval[1]))
    return Decision(
        go=improvement >= THRESHOLD and (not require_significant or limits[0] >= THRESHOLD),
        improvement=improvement,
        baseline=distances[0],
        checkpoint=distances[1],
        interval=limits,
        require_significant=require_significant,
        uniform_guess=_exact(checkpoint.bounds.uniform_guess),
        comparability=baseline.comparability.model_dump(),
        signals={printed: _signal(key, higher, baseline, checkpoint) for key, printed, higher in SIGNALS},
        rows_seen={"baseline": baseline.contaminated_rows, "checkpoint": checkpoint.contaminated_rows},
        notes=tuple(_notes(baseline, checkpoint)),
    )


def check_comparable(
    baseline: Mapping[str, Any], checkpoint: Mapping[str, Any], names: tuple[str, str]
) -> tuple[MetricsFile, MetricsFile]:
    """Both `metrics.json`, if they are complete, in range, and of the same rows, settings and cells.

    Raises:
        SocratesError: they are not; names both values and what to do.
    """
    before, after = check_metrics(baseline, names[0]), check_metrics(checkpoint, names[1])
    _check_same_settings(before.comparability, after.comparability, names)
    cells = before.coverage.cells_scored, after.coverage.cells_scored
    if cells[0] != cells[1]:  # a model must not choose, by giving no answer, what it is judged on
        raise SocratesError(
            f"these results cannot be compared: {names[0]} scores {cells[0]} cells and {names[1]} {cells[1]}: where a "
            "model gave no usable answer to a whole cell, the means are of different questions. What to do: look at "
            "its predictions.jsonl for rows without a prediction"
        )
    if before.wasserstein_distance == 0:
        raise SocratesError(
            f'{names[0]}: "{DISTANCE}" is 0, on which nothing can improve; no model gets that without having '
            "seen the answers: look at its predictions.jsonl"
        )
    return before, after


def _check_same_settings(baseline: Comparability, checkpoint: Comparability, names: tuple[str, str]) -> None:
    ours, theirs = baseline.model_dump(), checkpoint.model_dump()
    different = [key for key in {**ours, **theirs} if key not in ours or key not in theirs or ours[key] != theirs[key]]
    if not different:
        return
    problems = [
        f'"{key}" is {shown(ours.get(key))} in {names[0]} and {shown(theirs.get(key))} in {names[1]}'
        for key in different
    ]
    remedies = [REMEDIES[key] for key in different if key in REMEDIES] or ["evaluate both the same way"]
    if [section.prompt_fingerprint for section in (baseline, checkpoint)].count(EXTERNAL) == 1:
        remedies = [
            "one of them was scored from answers made elsewhere: score the other one's predictions.jsonl with "
            "scripts/score_predictions.py too, and compare these"
        ]
    raise SocratesError(f"these results cannot be compared: {'; '.join(problems)}. What to do: {'; '.join(remedies)}")


def _signal(key: str, higher_is_better: bool, baseline: MetricsFile, checkpoint: MetricsFile) -> dict[str, Any]:
    before, after = getattr(baseline, key), getattr(checkpoint, key)
    if before is None or after is None:
        verdict = "N/A"
    elif before == after:
        verdict = "same"
    else:
        verdict = "better" if (after > before) == higher_is_better else "worse"
    return {"baseline": before, "checkpoint": after, "verdict": verdict}


def _exact(value: float) -> Fraction:
    """The decimal number that a float was written as: its shortest representation."""
    return Fraction(repr(float(value)))


def _notes(baseline: MetricsFile, checkpoint: MetricsFile) -> Iterator[str]:
    both = dict(zip(ROLES, (baseline, checkpoint), strict=True))
    for role, metrics in both.items():
        if metrics.contaminated_rows:
            yield (
                f"the {role} may have been trained on {metrics.seen.rows} of the {metrics.seen.of} rows that it is "
                "evaluated on (--allow-seen): its distance tells what it remembers, and this decision nothing about "
                "studies that it has not seen."
            )
    best = checkpoint.bounds.empirical_best
    if checkpoint.wasserstein_distance < best:
        yield (
            f"the checkpoint's distance is below {best:.3f}, what people's own answers resampled score on the same "
            "cells. Either it knows persons (look at the correlation within cells), or rows leaked: look for them "
            "before believing it."
        )
    rows = [metrics.coverage.rows_scored for metrics in both.values()]
    if rows[0] != rows[1]:
        yield (
            f"the baseline was scored on {rows[0]} rows, the checkpoint on {rows[1]}: "
            "one of them gave fewer usable answers."
        )
    for role, metrics in both.items():
        mass = metrics.valid_mass
        if mass is not None and mass < LITTLE_MASS:
            yield f"the {role} puts only {mass:.2g} of its probability on valid answers; its distance is of that part."
    bases = [metrics.about.get("base_model") for metrics in both.values()]
    if None not in bases and bases[0] != bases[1]:
        yield f"the base models have other names: {bases[0]} and {bases[1]}; is this the right baseline?"
