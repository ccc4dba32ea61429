"""The gate's decision as recorded, its interval beside the threshold, and what to look at before believing it.

The report decides nothing: where `decision.json` is of other numbers than `metrics.json`, it says so and shows none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from socrates.files import finite
from socrates.report.part import SMALL, Material, Part, picture
from socrates.report.plot import DARK, LINE, Plot
from socrates.report.results_folders import (
    WASSERSTEIN,
    Value,
    comparability_differences,
    fixed,
    limits,
    limits_in_words,
)

_SAME = 1e-9
GATE = "scripts/gate.py BASELINE/metrics.json CHECKPOINT/metrics.json --output CHECKPOINT/decision.json records one"


def decision_part(material: Material) -> Part:
    """GO or NO-GO; for results that no decision is about, their distance."""
    subject, decision = material.subject, material.subject.decision
    lines: list[str] = []
    plots: tuple[Plot, ...] = ()
    improvement = None
    if decision is not None:
        problem = _problem(decision, material)
        improvement = None if problem else _improvement(decision)
        if problem:
            lines.append(problem)
    if improvement is not None and decision is not None:
        threshold = finite(decision.get("threshold_percent"))
        lines += _in_words(decision, improvement, threshold)
        plots = (_interval_picture(str(decision["decision"]), improvement, threshold),)
        lines += [_sentence(note) for note in _notes(decision)]
    else:
        lines.append(f"Wasserstein distance W of {subject.label}: {subject.distance.in_words()}; 0 is best.")
        if decision is None and material.baseline is not None:
            lines.append(f"No decision is recorded in {subject.folder}: {GATE}.")
    lines += _warnings(material, lines)
    title = "The decision" if improvement is not None or material.baseline else "The result"
    return Part("decision", title, tuple(lines), plots, kind="lead")


def _problem(decision: Mapping[str, Any], material: Material) -> str | None:
    """Why a recorded decision is not about these results."""
    if decision.get("decision") not in ("GO", "NO-GO") or finite(decision.get("improvement_percent")) is None:
        return f"{material.subject.folder}/decision.json holds no decision: {GATE}."
    pairs = [("checkpoint", material.subject), ("baseline", material.baseline)]
    for role, results in pairs:
        recorded = finite(decision.get(f"{role}_{WASSERSTEIN}"))
        if results is not None and recorded is not None and abs(recorded - results.distance.value) > _SAME:
            return (
                f"The recorded decision is of other numbers: a W of {recorded:.6g} for the {role}, where "
                f"{results.label} has {results.distance.value:.6g}. {GATE[:1].upper() + GATE[1:]} anew."
            )
    return None


def _improvement(decision: Mapping[str, Any]) -> Value:
    return Value(finite(decision.get("improvement_percent")), limits(decision.get("improvement_ci95")))


def _in_words(decision: Mapping[str, Any], improvement: Value, threshold: float | None) -> list[str]:
    """The decision in sentences."""
    percent = str(decision.get("improvement_printed") or f"{improvement.value:.1f}%")
    better = improvement.value >= 0
    change = f"{percent.removeprefix('-')} {'lower' if better else 'higher'} than the baseline's"
    interval = improvement.limits
    if interval is not None and not better:
        interval = (-interval[1], -interval[0])
    needed = "" if threshold is None else f"; GO needs at least {threshold:g}%"
    if decision.get("require_significant"):
        needed += " over the whole interval"
    lines = [
        f"{decision['decision']}: the Wasserstein distance is {change}{limits_in_words(interval, 1, '%')}{needed}.",
        f"W of the baseline: {fixed(finite(decision.get(f'baseline_{WASSERSTEIN}')))}; of the checkpoint: "
        f"{fixed(finite(decision.get(f'checkpoint_{WASSERSTEIN}')))}. Lower is better.",
    ]
    if improvement.limits is None:
        lines.append("The decision has no interval, so how much of it is chance is not known.")
    elif threshold is not None and improvement.limits[0] < threshold <= improvement.limits[1]:
        lines.append(
            f"The interval straddles the threshold of {threshold:g}%: with other studies or rows the decision may turn "
            "out the other way."
        )
    return lines


def _notes(decision: Mapping[str, Any]) -> list[str]:
    notes = decision.get("notes")
    return [str(note) for note in notes] if isinstance(notes, list) else []


def _warnings(material: Material, said: list[str]) -> list[str]:
    """What the numbers themselves warn of, unless a note of the decision did."""
    subject, warnings = material.subject, []
    text = " ".join(said).lower()
    uniform, distance = subject.value("bounds", "uniform_guess").value, subject.distance.value
    if uniform is not None and distance >= uniform and "uniform" not in text:
        warnings.append(
            f"{subject.label} is no better than a uniform guess on the same cells (W {distance:.4f} against "
            f"{uniform:.4f}): better than useless may still be useless."
        )
    seen = subject.metrics.get("seen")
    rows = finite(seen.get("rows")) if isinstance(seen, dict) else None
    if rows and "trained on" not in text:
        warnings.append(
            f"{subject.label} may have been trained on {rows:,.0f} of the rows that evaluate it: its distance shows "
            "what it remembers."
        )
    if material.baseline and (different := comparability_differences(material.baseline, subject)):
        warnings.append(
            f"{material.baseline.label} and {subject.label} must not be compared: they differ in "
            f"{', '.join(different)}. Evaluate both the same way."
        )
    return warnings


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:]


def _interval_picture(decision: str, improvement: Value, threshold: float | None) -> Plot:
    """The improvement and its interval against the threshold."""

    def draw(axes) -> None:
        if improvement.limits:
            axes.hlines(0.3, *improvement.limits, color=DARK, linewidth=3)
            axes.plot(improvement.limits, [0.3, 0.3], "|", color=DARK, markersize=11, markeredgewidth=2)
        axes.plot(improvement.value, 0.3, "o", color=DARK, markersize=9)
        axes.annotate(
            f"{improvement.value:.1f}%",
            (improvement.value, 0.3),
            (0, 9),
            textcoords="offset points",
            ha="center",
            fontweight="bold",
        )
        axes.axvline(0, color="#777777", linewidth=0.8)
        axes.annotate("no change", (0, 1), (-4, -8), textcoords="offset points", ha="right", fontsize=SMALL)
        if threshold is not None:
            axes.axvline(threshold, color=LINE, linewidth=1.4, linestyle="--")
            axes.annotate(
                f"threshold {threshold:g}%", (threshold, 1), (4, -8), textcoords="offset points", fontsize=SMALL
            )
        ends = [0, improvement.value, *([] if threshold is None else [threshold]), *(improvement.limits or ())]
        whole = max(ends) - min(ends) or 1.0
        axes.set_xlim(min(min(ends) - 0.06 * whole, -0.25 * whole), max(max(ends) + 0.06 * whole, 0.3 * whole))
        axes.set_ylim(0, 1)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("improvement on the baseline, percent")

    interval = (
        "no interval is recorded"
        if improvement.limits is None
        else f"its 95% interval from {improvement.limits[0]:.1f} to {improvement.limits[1]:.1f}%"
    )
    against = "" if threshold is None else f", against the threshold of {threshold:g}%"
    alt = f"Interval: improvement of {improvement.value:.1f}%, {interval}{against}. The decision is {decision}."
    return picture(f"{decision}: improvement and threshold", 1.7, draw, alt, name="decision")
