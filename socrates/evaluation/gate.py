"""Two metrics in, one decision out: GO, NO-GO, or an error that says why the two cannot be compared; and its words.

Does not cover: how intervals are made (`bootstrap.py`), or whether the metrics themselves are right.

Numbers are compared as exact fractions of the decimals that stand in the files: 0.400 -> 0.380 is an
improvement of 5% here, and of less in floating point. A printed number gets as many decimals as it takes to never say
another thing than the decision was made on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field

from socrates.errors import SocratesError
from socrates.evaluation.improvement import LEAST, MOST
from socrates.evaluation.metrics import METRIC_VERSION
from socrates.evaluation.people import FEWEST
from socrates.evaluation.results import (
    CELLS,
    DISTANCE,
    EXTERNAL,
    METRICS,
    PREDICTIONS,
    TOTAL_VARIATION,
    Comparability,
    MetricsFile,
    check_metrics,
)
from socrates.schema import Recorded, Share, shown

GO, NO_GO = "GO", "NO-GO"
THRESHOLD = 5  # percent, the guide's
ROLES = ("baseline", "checkpoint")
_PRINTED = {DISTANCE: "Wasserstein Distance", TOTAL_VARIATION: "Total Variation (nominal outcomes)"}
_LIMIT = f"{THRESHOLD}%"
_ONE_NUMBER = "One number would have made the baseline as wide."
_DECIMALS = 400  # more than the smallest float has

# What has to be equal, and what to do where it is not.
REMEDIES = {
    "data_sha256": "evaluate both on the same data file; of answers made elsewhere, give the same --human-answers FILE",
    "rows_sha256": "evaluate both on the same rows: same data file, --max-examples, rows_per_cell and seed; of answers "
    "made elsewhere, the same people, questions and human answers",
    "prompt_fingerprint": "evaluate both with the same chat template and system message",
    "decoding": "evaluate both with the same temperature and top_p",
    "seed": "evaluate both with the same seed",
    "metric_version": "evaluate the older one again: since version 4, the distance is of an answer of everybody in a "
    "cell, not of the few who were asked",
}

# name, printed name, whether higher is better
SIGNALS = (
    ("mae", "MAE", False),
    ("rmse", "RMSE", False),
    ("correlation", "Correlation", True),
    ("correlation_within_cells", "Within cells", True),
    ("accuracy", "Accuracy", True),
    ("valid_mass", "Valid mass", True),
    ("wasserstein_calibrated", "Calibrated W", False),
)
_OF_NOMINAL = (TOTAL_VARIATION, "Nominal TV", False)  # beside these where some outcomes are nominal

LITTLE_MASS = 0.5  # assumed: below it, most of what the model would say is no answer


_Percent = Annotated[float, Field(ge=-MOST, le=MOST)]


def _named(*names: str) -> Any:
    """A field that earlier versions recorded under another name."""
    return Field(validation_alias=AliasChoices(*names))


class Decision(Recorded, strict=False):
    """The decision and all that it stands on, as `decision.json` records it beside paths, hashes and the time."""

    decision: Literal["GO", "NO-GO"]
    improvement_percent: _Percent
    improvement_printed: str  # one decimal, more where that would cross the threshold or hide the sign
    threshold_percent: _Percent
    decided_on: Literal["wasserstein_distance", "total_variation"] = DISTANCE  # which distance these two are
    baseline_distance: Share = _named("baseline_distance", "baseline_wasserstein_distance")
    checkpoint_distance: Share = _named("checkpoint_distance", "checkpoint_wasserstein_distance")
    scope: str | None = None  # what alone the decision is about (`people.SCOPE`)
    improvement_ci95: tuple[_Percent, _Percent] | None  # None: not known
    require_significant: bool  # whether GO needs the interval above the threshold, too
    uniform_guess: Share = 1.0  # what guessing scores on the same cells
    worse_than_uniform: bool = False  # whether the checkpoint does no better than that
    comparability: dict[str, Any] = Field({})  # of both
    supporting_signals: dict[str, dict[str, Any]] = Field({})  # printed name -> baseline, checkpoint, verdict
    rows_seen: dict[str, int] = Field({})  # rows that each of the two may have been trained on
    notes: tuple[str, ...]  # what to look at before believing the decision; it does not depend on them


def decide(
    baseline: MetricsFile,
    checkpoint: MetricsFile,
    *,
    interval: tuple[float, float] | None = None,
    require_significant: bool = False,
) -> Decision:
    """Decide whether the checkpoint is better than the baseline by at least `THRESHOLD` percent.

    Improvement = (1 - checkpoint / baseline) x 100 of `wasserstein_distance`, or of `total_variation` where all
    outcomes are nominal; at the threshold is GO.

    Args:
        baseline: as `check_comparable` gives it.
        checkpoint: likewise.
        interval: 95% interval of the improvement, in percent (`results_improvement`); None: not known.
        require_significant: whether GO needs the whole interval at or above the threshold, too. Its limits count as
            they are recorded and printed, which is rounded to the digits that `bootstrap.intervals` gives.

    Raises:
        SocratesError: an interval is required and not known.
    """
    if require_significant and interval is None:
        raise SocratesError(
            f"whether the improvement is significant cannot be told: it has no interval ({_no_interval(checkpoint)})"
        )
    distances = baseline.distance, checkpoint.distance
    improvement = _improvement(*distances)
    go = improvement >= THRESHOLD and (not require_significant or interval[0] >= THRESHOLD)
    guess = checkpoint.guesses.uniform_guess
    nominal = baseline.nominal and baseline.decided_on == DISTANCE
    signals = (*SIGNALS, _OF_NOMINAL) if nominal else SIGNALS
    return Decision(
        decision=GO if go else NO_GO,
        improvement_percent=float(improvement),
        improvement_printed=f"{_printed_improvement(improvement)}%",
        threshold_percent=float(THRESHOLD),
        decided_on=baseline.decided_on,
        baseline_distance=distances[0],
        checkpoint_distance=distances[1],
        scope=baseline.scope or checkpoint.scope,
        improvement_ci95=interval,
        require_significant=require_significant,
        uniform_guess=guess,
        worse_than_uniform=distances[1] >= guess,
        comparability=baseline.comparability.model_dump(),
        supporting_signals={printed: _signal(key, higher, baseline, checkpoint) for key, printed, higher in signals},
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
    kinds = [(one.coverage.cells_nominal, one.decided_on, one.nominal is None) for one in (before, after)]
    if cells[0] != cells[1] or kinds[0] != kinds[1]:  # no model may choose, by giving no answer, what it is judged on
        raise SocratesError(
            f"these results cannot be compared: {names[0]} scores {cells[0]} cells and {names[1]} {cells[1]}: where a "
            "model gave no usable answer to a whole cell, the means are of different questions. What to do: look at "
            "its predictions.jsonl for rows without a prediction"
        )
    for name, metrics in zip(names, (before, after), strict=True):
        if metrics.distance < LEAST:
            raise SocratesError(
                f'{name}: "{metrics.decided_on}" is {metrics.distance:g}, on which nothing can improve; no model '
                "gets that without having seen the answers: look at its predictions.jsonl"
            )
    return before, after


def check_version(version: int, path: Path) -> None:
    """SocratesError where the results of a `metrics.json` are of another metric version, with what to do."""
    if version != METRIC_VERSION:
        raise SocratesError(f'{path}: "metric_version" is {version}: {REMEDIES["metric_version"]}')


def _check_same_settings(baseline: Comparability, checkpoint: Comparability, names: tuple[str, str]) -> None:
    ours, theirs = baseline.model_dump(), checkpoint.model_dump()
    different = [key for key in {**ours, **theirs} if key not in ours or key not in theirs or ours[key] != theirs[key]]
    if not different and baseline.metric_version == METRIC_VERSION:
        return
    different = different or ["metric_version"]
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


def _notes(baseline: MetricsFile, checkpoint: MetricsFile) -> Iterator[str]:
    both = dict(zip(ROLES, (baseline, checkpoint), strict=True))
    yield from _width(baseline, checkpoint)
    for role, metrics in both.items():
        if metrics.contaminated_rows:
            yield (
                f"the {role} may have been trained on {metrics.seen.rows} of the {metrics.seen.of} rows that it is "
                "evaluated on (--allow-seen): its distance tells what it remembers, and this decision nothing about "
                "studies that it has not seen."
            )
    if checkpoint.nominal and checkpoint.decided_on == DISTANCE:
        yield (
            f"{checkpoint.coverage.cells_nominal} of the {checkpoint.coverage.cells_scored} cells are nominal, and not "
            "in this distance. Their total variation, on which nothing is decided, went from "
            f"{baseline.total_variation:.3f} to {checkpoint.total_variation:.3f}."
        )
    if scope := baseline.scope or checkpoint.scope:
        yield f"this decision is {scope}: it says nothing of other questions or studies."
    best = checkpoint.guesses.empirical_best
    if checkpoint.distance < best:
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
    drawn = [metrics.coverage.cells_drawn for metrics in both.values()]
    if drawn[0] != drawn[1]:
        yield (
            f"of the {checkpoint.coverage.cells_scored} cells, {drawn[0]} of the baseline and {drawn[1]} of the "
            "checkpoint are scored from drawn answers, without probabilities, and these score too high where fewer "
            "people were asked than answered: compare wasserstein_drawn of both."
        )
    bases = [metrics.about.get("base_model") for metrics in both.values()]
    if None not in bases and bases[0] != bases[1]:
        names = " and ".join(f"{base!s:.200}" for base in bases)
        yield f"the base models have other names: {names}; is this the right baseline?"


def _width(baseline: MetricsFile, checkpoint: MetricsFile) -> Iterator[str]:
    """What is said where the decision would be the other one with each model at the width that fits people."""
    calibrated = baseline.wasserstein_calibrated, checkpoint.wasserstein_calibrated
    if None in calibrated or calibrated[0] < LEAST:
        return
    improvement = _improvement(*calibrated)
    plain = _improvement(baseline.distance, checkpoint.distance)
    if (plain >= THRESHOLD) == (improvement >= THRESHOLD):
        return
    how_much = "most" if improvement < plain / 2 else "some"
    what = f"{how_much} of this is width, not learning" if plain >= THRESHOLD else "decoding hides it"
    yield (
        f"{what}: with each model's answers at the temperature that fits people best, the improvement is "
        f"{_printed_improvement(improvement)}%, from {calibrated[0]:.4f} to {calibrated[1]:.4f}. "
        f"{_ONE_NUMBER if plain >= THRESHOLD else 'Look at temperature and top_p first.'}"
    )


def decision_text(decision: Decision) -> str:
    """The lines that the guide shows, then the supporting signals and the notes."""
    baseline, checkpoint = printed_distances(decision)
    lines = [
        f"{_PRINTED[decision.decided_on]}:",
        f"  Baseline:    {baseline}",
        f"  Checkpoint:  {checkpoint}",
        f"  Improvement: {decision.improvement_printed}",
        "",
    ]
    if decision.decision == GO:
        lines += [f"✅ GO - Improvement ≥{_LIMIT}", "Proceed to full training!"]
    else:
        distances = decision.baseline_distance, decision.checkpoint_distance
        short = _improvement(*distances) < THRESHOLD
        lines += [
            f"❌ NO-GO - Improvement <{_LIMIT}"
            if short
            else f"❌ NO-GO - Improvement ≥{_LIMIT}, but not significantly (--require-significant)",
            "DO NOT proceed to full training. Debug, adjust the config and retry Phase 1: see VALIDATION_CRITERIA.md.",
        ]
    lines += ["", *_interval_lines(decision)]
    if decision.worse_than_uniform:
        pair = _exact(decision.uniform_guess), _exact(decision.checkpoint_distance)
        guess, distance = _printed(*pair, decimals=3, said=lambda guess, distance: (guess > distance, guess < distance))
        lines += [
            "",
            f"⚠ No better than a uniform guess: the checkpoint scores {distance}, guessing {guess} on the same cells.",
            f"{_LIMIT} better than useless may still be useless.",
        ]
    lines += ["", "Supporting signals (reported, they do not decide):"]
    for name, signal in decision.supporting_signals.items():
        before, after = ("N/A" if signal[role] is None else f"{signal[role]:.3f}" for role in ROLES)
        lines.append(f"  {name + ':':<14}{before} -> {after}  {signal['verdict']}")
    lines += [line for note in decision.notes for line in ("", f"Note: {note}")]
    return "\n".join(lines)


def printed_distances(decision: Decision) -> list[str]:
    """Both distances: three decimals, more where these would read as another decision or as equal."""

    def said(before: Fraction, after: Fraction) -> tuple[bool, ...]:
        return before > 0, before == after, after * 100 <= before * (100 - THRESHOLD)

    pair = decision.baseline_distance, decision.checkpoint_distance
    return _printed(*map(_exact, pair), decimals=3, said=said)


def _no_interval(of: Decision | MetricsFile) -> str:
    if of.scope:
        return f"no {CELLS} and {PREDICTIONS} beside both {METRICS}, or fewer than {FEWEST} people"
    return f"no {CELLS} beside both {METRICS}, or a single cell"


def _interval_lines(decision: Decision) -> list[str]:
    others = "other people of this study" if decision.scope else "other studies and people like these"
    same = f"with {others} it would very likely be the same decision."
    if (interval := decision.improvement_ci95) is None:
        return [f"95% interval of the improvement: N/A ({_no_interval(decision)})"]
    low, high = map(_exact, interval)
    if low >= THRESHOLD:
        meaning = f"All of it is at or above {_LIMIT}: {same}"
    elif high < THRESHOLD:
        meaning = f"All of it is below {_LIMIT}: {same}"
    else:
        others = others.removesuffix(" like these")
        told = "More people who judge (prepare_data.py --judge-share) make it narrower."
        if not decision.scope:
            told = "VALIDATION_CRITERIA.md says what more examples (--max-examples) can tell, and what they cannot."
        meaning = f"It straddles {_LIMIT}: with {others} the decision could have been the other one. {told}"
    printed = _printed(low, high, decimals=1, said=lambda *limits: [limit >= THRESHOLD for limit in limits])
    return ["95% interval of the improvement: {}% to {}%".format(*printed), meaning]


def _improvement(baseline: float, checkpoint: float) -> Fraction:
    return (1 - _exact(checkpoint) / _exact(baseline)) * 100


def _printed_improvement(improvement: Fraction) -> str:
    return _printed(improvement, decimals=1, said=lambda shown: (shown >= THRESHOLD, shown > 0, shown < 0))[0]


def _exact(value: float) -> Fraction:
    """The decimal number that a float was written as: its shortest representation."""
    return Fraction(repr(float(value)))


def _printed(*values: Fraction, decimals: int, said: Callable[..., object]) -> list[str]:
    """The numbers with as few decimals, from ``decimals`` up, as make ``said(*numbers)`` the same."""
    for places in range(decimals, _DECIMALS):
        rounded = [round(value, places) for value in values]
        if said(*rounded) == said(*values):
            return [_fixed(value, places) for value in rounded]
    raise AssertionError(f"no number of decimals shows {values} as they were decided on")


def _fixed(value: Fraction, places: int) -> str:
    """A fraction that has at most ``places`` decimals, written with exactly as many."""
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"
