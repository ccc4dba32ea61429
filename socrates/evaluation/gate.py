"""Two metrics in, one decision out: GO, NO-GO, or an error that says why the two cannot be compared.

Covers: whether the checkpoint's Wasserstein distance is lower than the baseline's by the threshold, and, if that is
asked for, by more than chance explains; missing, malformed and implausible numbers; results that must not be compared.
Does not cover: how the interval is made (`intervals.py`), or whether the metrics themselves are right.

Numbers are compared as exact fractions of the decimals that stand in the files: 0.400 -> 0.380 is an
improvement of 5% here, and of less in floating point.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from socrates.data.contamination import contaminated_rows
from socrates.errors import SocratesError

GO, NO_GO = "GO", "NO-GO"
THRESHOLD = 5.0  # percent, the guide's
DISTANCE = "wasserstein_distance"

# What has to be equal, and what to do where it is not.
REMEDIES = {
    "data_sha256": "evaluate both on the same data file",
    "rows_sha256": "evaluate both on the same rows: same data file, --max-examples, rows_per_cell and seed",
    "prompt_fingerprint": "evaluate both with the same chat template and system message",
    "decoding": "evaluate both with the same temperature and top_p",
    "seed": "evaluate both with the same seed",
    "metric_version": "evaluate the older one again with this version of the program",
}
# The same between two that were both scored from answers made elsewhere (scripts/score_predictions.py).
EXTERNAL_REMEDIES = {
    **REMEDIES,
    "data_sha256": "score both with the same --human-answers FILE: a data file, or the cells.jsonl of either",
    "rows_sha256": "score answers to the same rows: the same people, questions and human answers in both files",
    "seed": "score both with the same --seed",
    "metric_version": "score the older one again with this version of the program",
}
EXTERNAL_REMEDY = (
    "one of them was scored from answers made elsewhere: score the other one's predictions.jsonl "
    "with scripts/score_predictions.py too, and compare these"
)

# name, printed name, smallest and largest possible value, whether higher is better
SIGNALS = (
    ("mae", "MAE", 0, 1, False),
    ("rmse", "RMSE", 0, 1, False),
    ("correlation", "Correlation", -1, 1, True),
    ("correlation_within_cells", "Within cells", -1, 1, True),
    ("accuracy", "Accuracy", 0, 1, True),
    ("valid_mass", "Valid mass", 0, 1, True),
)

LITTLE_MASS = 0.5  # assumed: below it, most of what the model would say is no answer


@dataclass(frozen=True)
class Signal:
    """A supporting number of both results; None where a result does not define it."""

    name: str
    baseline: float | None
    checkpoint: float | None
    verdict: str  # "better", "worse", "same" or "N/A"


@dataclass(frozen=True)
class Decision:
    """The decision and all that it stands on."""

    decision: str  # GO or NO_GO
    improvement: Fraction  # percent, exact
    baseline: Fraction  # Wasserstein distance, in (0, 1]
    checkpoint: Fraction  # likewise, in [0, 1]
    threshold: Fraction  # percent
    interval: tuple[Fraction, Fraction] | None  # 95%, of the improvement, percent; None: not known
    require_significant: bool  # whether GO needs the interval above the threshold, too
    uniform_guess: Fraction  # what guessing scores on the same cells
    comparability: Mapping[str, Any]  # of both
    signals: tuple[Signal, ...]
    rows_seen: tuple[int, int]  # rows that the baseline, and the checkpoint, may have been trained on
    notes: tuple[str, ...]  # what to look at before believing the decision; it does not depend on them

    @property
    def go(self) -> bool:
        """Whether to go on."""
        return self.decision == GO

    @property
    def worse_than_uniform(self) -> bool:
        """Whether the checkpoint does no better than a uniform guess."""
        return self.checkpoint >= self.uniform_guess


def decide(
    baseline: Mapping[str, Any],
    checkpoint: Mapping[str, Any],
    threshold: float = THRESHOLD,
    names: tuple[str, str] = ("baseline metrics", "checkpoint metrics"),
    *,
    interval: tuple[float, float] | None = None,
    require_significant: bool = False,
) -> Decision:
    """Decide whether the checkpoint is better than the baseline by at least ``threshold`` percent.

    Improvement = (1 - checkpoint / baseline) x 100 of `wasserstein_distance`; at the threshold is GO.

    Args:
        baseline: the content of the baseline's `metrics.json` (`results.MetricsFile`).
        checkpoint: the same of the checkpoint.
        threshold: percent.
        names: what to call the two in messages (their paths).
        interval: 95% interval of the improvement, in percent (`intervals.improvement_interval`); None: not known.
        require_significant: whether GO needs the whole interval at or above the threshold, too. Its limits count as
            they are recorded and printed, which is rounded to the digits that `bootstrap.intervals` gives.

    Raises:
        SocratesError: there is no decision, because a distance, bound or signal is no number in its range, the
            baseline's distance is 0, the two must not be compared, or an interval is required and not known.
    """
    check_comparable(baseline, checkpoint, names)
    seen = [contaminated_rows(m, name) for m, name in zip((baseline, checkpoint), names, strict=True)]
    before, after = (_distance(m, name) for m, name in zip((baseline, checkpoint), names, strict=True))
    limit = _in_range(threshold, "threshold", 0, 100, "gate")
    improvement = (1 - after / before) * 100
    if require_significant and interval is None:
        raise SocratesError(
            "whether the improvement is significant cannot be told: it has no interval, which takes the cells.jsonl "
            "beside both metrics.json, and two cells at least"
        )
    limits = None if interval is None else (_exact(interval[0]), _exact(interval[1]))
    enough = improvement >= limit and (not require_significant or limits[0] >= limit)
    return Decision(
        decision=GO if enough else NO_GO,
        improvement=improvement,
        baseline=before,
        checkpoint=after,
        threshold=limit,
        interval=limits,
        require_significant=require_significant,
        uniform_guess=_bound(checkpoint, "uniform_guess", names[1]),
        comparability=baseline["comparability"],
        signals=tuple(_signal(spec, baseline, checkpoint, names) for spec in SIGNALS),
        rows_seen=(seen[0][0], seen[1][0]),
        notes=(
            *_seen_notes(seen),
            *_notes(after, _bound(checkpoint, "empirical_best", names[1]), baseline, checkpoint),
        ),
    )


def check_comparable(
    baseline: Mapping[str, Any], checkpoint: Mapping[str, Any], names: tuple[str, str] = ("baseline", "checkpoint")
) -> None:
    """SocratesError unless both `metrics.json` are complete, of the same rows, settings and cells, and in range."""
    _check_same_settings(baseline, checkpoint, names)
    for metrics, name in zip((baseline, checkpoint), names, strict=True):
        contaminated_rows(metrics, name)
    _check_same_cells(baseline, checkpoint, names)
    for metrics, name in zip((baseline, checkpoint), names, strict=True):
        _distance(metrics, name)
    if baseline[DISTANCE] == 0:
        raise SocratesError(
            f'{names[0]}: "{DISTANCE}" is 0, on which nothing can improve; no model gets that without having '
            "seen the answers: look at its predictions.jsonl"
        )
    for bound in ("uniform_guess", "empirical_best"):
        _bound(checkpoint, bound, names[1])
    for spec in SIGNALS:
        _signal(spec, baseline, checkpoint, names)


def _check_same_settings(baseline: Mapping[str, Any], checkpoint: Mapping[str, Any], names: tuple[str, str]) -> None:
    ours, theirs = (_comparable(m, name) for m, name in zip((baseline, checkpoint), names, strict=True))
    keys = dict.fromkeys([*REMEDIES, *ours, *theirs])
    different = [key for key in keys if key not in ours or key not in theirs or ours[key] != theirs[key]]
    if not different:
        return
    problems = [
        f'"{key}" is {_shown(ours, key)} in {names[0]} and {_shown(theirs, key)} in {names[1]}' for key in different
    ]
    external = [section["prompt_fingerprint"] for section in (ours, theirs)].count("external")
    known = EXTERNAL_REMEDIES if external == 2 else REMEDIES
    remedies = [known[key] for key in different if key in known] or ["evaluate both the same way"]
    if external == 1:
        remedies = [EXTERNAL_REMEDY]
    elif external == 2 and "rows_sha256" in different:
        remedies.remove(known["data_sha256"])  # of answers made elsewhere it is a hash of the rows, too
    raise SocratesError(f"these results cannot be compared: {'; '.join(problems)}. What to do: {'; '.join(remedies)}")


def _check_same_cells(baseline: Mapping[str, Any], checkpoint: Mapping[str, Any], names: tuple[str, str]) -> None:
    """Refuse means over different cells: a model must not choose, by giving no answer, what it is judged on."""
    counts = [_scored(metrics, name) for metrics, name in zip((baseline, checkpoint), names, strict=True)]
    if counts[0]["cells_scored"] != counts[1]["cells_scored"]:
        raise SocratesError(
            f"these results cannot be compared: {names[0]} scores {counts[0]['cells_scored']} cells and "
            f"{names[1]} {counts[1]['cells_scored']}: where a model gave no usable answer to a whole cell, the means "
            "are of different questions. What to do: look at its predictions.jsonl for rows without a prediction"
        )


def _comparable(metrics: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = metrics.get("comparability")
    if not isinstance(section, Mapping):
        raise SocratesError(
            f'{name}: no "comparability" object, so nothing says which rows and settings its distance is of; '
            "evaluate again with this program"
        )
    for key in REMEDIES:
        if section.get(key) in (None, "", {}):
            raise SocratesError(f'{name}: no "{key}" in "comparability"; evaluate again with this program')
    if type(section["seed"]) is not int or section["seed"] < 0:
        raise SocratesError(
            f'{name}: "seed" in "comparability" must be a whole number of at least 0, not {_shown(section, "seed")}; '
            "evaluate again"
        )
    return section


def _shown(section: Mapping[str, Any], key: str) -> str:
    return json.dumps(section[key], ensure_ascii=False, default=str) if key in section else "absent"


def _distance(metrics: Mapping[str, Any], name: str) -> Fraction:
    if DISTANCE not in metrics:
        raise SocratesError(f'{name}: no "{DISTANCE}"; is this the metrics.json of an evaluation?')
    return _in_range(metrics[DISTANCE], DISTANCE, 0, 1, name)


def _signal(
    spec: tuple[str, str, int, int, bool],
    baseline: Mapping[str, Any],
    checkpoint: Mapping[str, Any],
    names: tuple[str, str],
) -> Signal:
    key, printed, low, high, higher_is_better = spec
    for metrics, name in zip((baseline, checkpoint), names, strict=True):
        if key not in metrics:  # not defined is null; a key that is not there is another kind of file
            raise SocratesError(f'{name}: no "{key}"; is this the metrics.json of an evaluation?')
    values = [m[key] for m in (baseline, checkpoint)]
    exact = [
        None if value is None else _in_range(value, key, low, high, name)
        for value, name in zip(values, names, strict=True)
    ]
    before, after = exact
    if before is None or after is None:
        verdict = "N/A"
    elif before == after:
        verdict = "same"
    else:
        verdict = "better" if (after > before) == higher_is_better else "worse"
    return Signal(printed, *(None if value is None else float(value) for value in exact), verdict)


def _in_range(value: Any, key: str, low: int, high: int, name: str) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SocratesError(f'{name}: "{key}" must be a number, not {json.dumps(value, default=str)}')
    if not low <= value <= high:  # NaN fails this too
        raise SocratesError(f'{name}: "{key}" must lie between {low} and {high}, not {value}')
    return _exact(value)


def _exact(value: float) -> Fraction:
    """The decimal number that a float was written as: its shortest representation."""
    return Fraction(value) if isinstance(value, int) else Fraction(repr(float(value)))


def _bound(metrics: Mapping[str, Any], key: str, name: str) -> Fraction:
    bounds = metrics.get("bounds")
    if not isinstance(bounds, Mapping) or key not in bounds:
        raise SocratesError(f'{name}: no "{key}" in "bounds"; evaluate again with this program')
    return _in_range(bounds[key], key, 0, 1, f"{name}: bounds")


def _seen_notes(seen: Sequence[tuple[int, int]]) -> list[str]:
    return [
        f"the {role} may have been trained on {rows} of the {of} rows that it is evaluated on (--allow-seen): its "
        "distance tells what it remembers, and this decision nothing about studies that it has not seen."
        for role, (rows, of) in zip(("baseline", "checkpoint"), seen, strict=True)
        if rows
    ]


def _notes(after: Fraction, best: Fraction, baseline: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> list[str]:
    notes = []
    if after < best:
        notes.append(
            f"the checkpoint's distance is below {float(best):.3f}, what people's own answers resampled score on the "
            "same cells. Either it knows persons (look at the correlation within cells), or rows leaked: look for them "
            "before believing it."
        )
    rows = [_scored(metrics, "")["rows_scored"] for metrics in (baseline, checkpoint)]
    if rows[0] != rows[1]:
        notes.append(
            f"the baseline was scored on {rows[0]} rows, the checkpoint on {rows[1]}: "
            "one of them gave fewer usable answers."
        )
    masses = [metrics["valid_mass"] for metrics in (baseline, checkpoint)]
    for role, mass in zip(("baseline", "checkpoint"), masses, strict=True):
        if mass is not None and mass < LITTLE_MASS:
            notes.append(
                f"the {role} puts only {mass:.2g} of its probability on valid answers; its distance is of that part."
            )
    bases = [_about(metrics).get("base_model") for metrics in (baseline, checkpoint)]
    if None not in bases and bases[0] != bases[1]:
        notes.append(f"the base models have other names: {bases[0]} and {bases[1]}; is this the right baseline?")
    return notes


def _about(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    about = metrics.get("about")
    return about if isinstance(about, Mapping) else {}


def _scored(metrics: Mapping[str, Any], name: str) -> Mapping[str, int]:
    coverage = metrics.get("coverage")
    if not isinstance(coverage, Mapping) or not all(
        isinstance(coverage.get(key), int) for key in ("rows_scored", "cells_scored")
    ):
        raise SocratesError(f'{name}: no "coverage" with "rows_scored" and "cells_scored"; evaluate again')
    return coverage
