"""The gate's decision as recorded, its interval beside the threshold, and what to look at before believing it.

The report decides nothing: where `decision.json` is of other numbers than `metrics.json`, it says so and shows none.
"""

from __future__ import annotations

from typing import Any

from socrates.report.plot import Plot, Point, draw_points
from socrates.report.results_folders import Material, RecordedDecision, comparability_differences, limits_in_words

_SAME = 1e-9


def decision_part(material: Material) -> dict[str, Any]:
    """The decision, or why none is shown, and what the numbers themselves warn of."""
    made, subject = material.subject.decision, material.subject
    other = made and _of_other_numbers(made, material)
    if other or made is None:
        return {
            "made": None,
            "other": other,
            "plots": (),
            "warnings": [*_warnings(material), *_contamination(material)],
        }
    better, limits = made.improvement_percent >= 0, made.improvement_ci95
    return {
        "made": made,
        "change": f"{made.improvement_printed.removeprefix('-')} {'lower' if better else 'higher'} than",
        "interval": limits_in_words(made.improvement.times(1 if better else -1).limits, 1, "%"),
        "straddles": limits is not None and limits[0] < made.threshold_percent <= limits[1],
        "plots": (_picture(made, subject.label),),
        "warnings": [note.strip()[:1].upper() + note.strip()[1:] for note in made.notes] + _warnings(material),
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


def _warnings(material: Material) -> list[str]:
    subject, warnings = material.subject, []
    uniform, distance = subject.value("bounds", "uniform_guess").value, subject.distance.value
    if uniform is not None and distance >= uniform:
        warnings.append(
            f"{subject.label} is no better than a uniform guess on the same cells (W {distance:.4f} against "
            f"{uniform:.4f}): better than useless may still be useless."
        )
    if material.baseline and (different := comparability_differences(material.baseline, subject)):
        warnings.append(
            f"{material.baseline.label} and {subject.label} must not be compared: they differ in "
            f"{', '.join(different)}. Evaluate both the same way."
        )
    return warnings


def _contamination(material: Material) -> list[str]:
    """What the notes of a decision say, too."""
    subject = material.subject
    if not (rows := subject.value("seen", "rows").value):
        return []
    told = f"{subject.label} may have been trained on {rows:,.0f} of the rows that evaluate it"
    return [f"{told}: its distance shows what it remembers."]


def _picture(made: RecordedDecision, label: str) -> Plot:
    lines = {"no change": 0.0, "threshold": made.threshold_percent}
    return draw_points(
        f"{made.decision}: improvement and threshold",
        [Point(label, made.improvement_percent, made.improvement_ci95)],
        "improvement on the baseline, percent",
        lines=lines,
        digits=1,
        name="decision",
    )
