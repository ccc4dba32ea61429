"""The gate's decision as recorded, its interval beside the threshold, and what to look at before believing it.

The report decides nothing: where `decision.json` is of other numbers than `metrics.json`, it says so and shows none.
"""

from __future__ import annotations

from typing import Any

from socrates.report.plot import Point, draw_points
from socrates.report.results_folders import Material, RecordedDecision, comparability_differences, limits_in_words

_SAME = 1e-9


def decision_part(material: Material) -> dict[str, Any]:
    """The decision, or why none is shown, and what must not be compared."""
    made, baseline, subject = material.subject.decision, material.baseline, material.subject
    other = made and _of_other_numbers(made, material)
    differing = comparability_differences(baseline, subject) if baseline else []
    if other or made is None:
        return {"made": None, "other": other, "differing": differing, "plots": ()}
    better, limits = made.improvement_percent >= 0, made.improvement_ci95
    plot = draw_points(
        f"{made.decision}: improvement and threshold",
        [Point(subject.label, made.improvement_percent, limits)],
        "improvement on the baseline, percent",
        lines={"no change": 0.0, "threshold": made.threshold_percent},
        digits=1,
        name="decision",
    )
    return {
        "made": made,
        "differing": differing,
        "change": f"{made.improvement_printed.removeprefix('-')} {'lower' if better else 'higher'} than",
        "interval": limits_in_words(made.improvement.times(1 if better else -1).limits, 1, "%"),
        "straddles": limits is not None and limits[0] < made.threshold_percent <= limits[1],
        "plots": (plot,),
    }


def _of_other_numbers(made: RecordedDecision, material: Material) -> str | None:
    """Which numbers a recorded decision is about, where they are not those of these results."""
    pairs = (
        ("checkpoint", made.checkpoint_wasserstein_distance, material.subject),
        ("baseline", made.baseline_wasserstein_distance, material.baseline),
    )
    for role, recorded, results in pairs:
        if results is not None and abs(recorded - results.distance.value) > _SAME:
            has = f"{results.label} has {results.distance.value:.6g}"
            return f"The recorded decision is of other numbers: a W of {recorded:.6g} for the {role}, where {has}."
    return None
