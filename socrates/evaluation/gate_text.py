"""A decision as people read it and as `decision.json` records it: the guide's lines, then what they rest on.

Covers: a printed number never says another thing than the decision was made on. It gets as many decimals as that takes.
Does not cover: the decision (`gate.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from socrates.evaluation.gate import Decision

_SAME = "with other studies and people like these it would very likely be the same decision."
_DECIMALS = 400  # more than the smallest float has


def decision_text(decision: Decision) -> str:
    """The lines that the guide shows, then the supporting signals and the notes."""
    baseline, checkpoint = printed_distances(decision)
    limit = f"{float(decision.threshold):g}"
    lines = [
        "Wasserstein Distance:",
        f"  Baseline:    {baseline}",
        f"  Checkpoint:  {checkpoint}",
        f"  Improvement: {printed_improvement(decision)}%",
        "",
    ]
    if decision.go:
        lines += [f"✅ GO - Improvement ≥{limit}%", "Proceed to full training!"]
    else:
        short = decision.improvement < decision.threshold
        lines += [
            f"❌ NO-GO - Improvement <{limit}%"
            if short
            else f"❌ NO-GO - Improvement ≥{limit}%, but not significantly (--require-significant)",
            "DO NOT proceed to full training. Debug, adjust the config and retry Phase 1: see VALIDATION_CRITERIA.md.",
        ]
    lines += ["", *_interval_lines(decision)]
    if decision.worse_than_uniform:
        guess, distance = printed_against_uniform(decision)
        lines += [
            "",
            f"⚠ No better than a uniform guess: the checkpoint scores {distance}, guessing {guess} on the same cells.",
            f"{limit}% better than useless may still be useless.",
        ]
    lines += ["", "Supporting signals (reported, they do not decide):"]
    for signal in decision.signals:
        values = " -> ".join("N/A" if v is None else f"{v:.3f}" for v in (signal.baseline, signal.checkpoint))
        lines.append(f"  {signal.name + ':':<14}{values}  {signal.verdict}")
    lines += [line for note in decision.notes for line in ("", f"Note: {note}")]
    return "\n".join(lines)


def decision_record(decision: Decision) -> dict[str, Any]:
    """The decision as `decision.json` records it; the caller adds paths, hashes and the time."""
    return {
        "decision": decision.decision,
        "improvement_percent": float(decision.improvement),
        "improvement_printed": printed_improvement(decision) + "%",
        "threshold_percent": float(decision.threshold),
        "baseline_wasserstein_distance": float(decision.baseline),
        "checkpoint_wasserstein_distance": float(decision.checkpoint),
        "improvement_ci95": None if decision.interval is None else [float(limit) for limit in decision.interval],
        "require_significant": decision.require_significant,
        "uniform_guess": float(decision.uniform_guess),
        "worse_than_uniform": decision.worse_than_uniform,
        "comparability": dict(decision.comparability),
        "supporting_signals": {
            signal.name: {
                "baseline": signal.baseline,
                "checkpoint": signal.checkpoint,
                "verdict": signal.verdict,
            }
            for signal in decision.signals
        },
        "rows_seen": dict(zip(("baseline", "checkpoint"), decision.rows_seen, strict=True)),
        "notes": list(decision.notes),
    }


def printed_improvement(decision: Decision) -> str:
    """The improvement in percent: one decimal, more where that would cross the threshold or hide the sign."""
    exact, limit = decision.improvement, decision.threshold

    def same_side(rounded: Fraction) -> bool:
        return (rounded >= limit) == (exact >= limit) and (rounded > 0, rounded < 0) == (exact > 0, exact < 0)

    return _shortest(same_side, [exact], decimals=1)[0]


def printed_distances(decision: Decision) -> tuple[str, str]:
    """Both distances: three decimals, more where these would read as another decision or as equal."""

    def reads_the_same(before: Fraction, after: Fraction) -> bool:
        if before == 0 or (before == after) != (decision.baseline == decision.checkpoint):
            return False
        return ((1 - after / before) * 100 >= decision.threshold) == (decision.improvement >= decision.threshold)

    baseline, checkpoint = _shortest(reads_the_same, [decision.baseline, decision.checkpoint], decimals=3)
    return baseline, checkpoint


def printed_interval(decision: Decision) -> tuple[str, str]:
    """Both limits in percent: one decimal, more where a limit would be seen on the other side of the threshold."""

    def same_sides(*rounded: Fraction) -> bool:
        return all(
            (shown >= decision.threshold) == (exact >= decision.threshold)
            for shown, exact in zip(rounded, decision.interval, strict=True)
        )

    low, high = _shortest(same_sides, list(decision.interval), decimals=1)
    return low, high


def printed_against_uniform(decision: Decision) -> tuple[str, str]:
    """The uniform guess and the checkpoint's distance: three decimals, more where they would read as the other way."""
    pair = [decision.uniform_guess, decision.checkpoint]
    guess, distance = _shortest(
        lambda g, d: (g > d) == (pair[0] > pair[1]) and (g == d) == (pair[0] == pair[1]), pair, 3
    )
    return guess, distance


def _interval_lines(decision: Decision) -> list[str]:
    limit = f"{float(decision.threshold):g}"
    if decision.interval is None:
        return ["95% interval of the improvement: N/A (no cells.jsonl beside both metrics.json, or a single cell)"]
    low, high = decision.interval
    if low >= decision.threshold:
        meaning = f"All of it is at or above {limit}%: {_SAME}"
    elif high < decision.threshold:
        meaning = f"All of it is below {limit}%: {_SAME}"
    else:
        meaning = (
            f"It straddles {limit}%: with other studies and people the decision could have been the other one. "
            "VALIDATION_CRITERIA.md says what more examples (--max-examples) can tell, and what they cannot."
        )
    return ["95% interval of the improvement: {}% to {}%".format(*printed_interval(decision)), meaning]


def _shortest(right: Callable[..., bool], values: list[Fraction], decimals: int) -> list[str]:
    """The numbers with as few decimals, from ``decimals`` up, as make ``right(*rounded numbers)`` true.

    It does at the latest with all their decimals, or so many that rounding comes near enough.
    """
    for places in range(decimals, _DECIMALS):
        rounded = [round(value, places) for value in values]
        if right(*rounded):
            return [_fixed(value, places) for value in rounded]
    raise AssertionError(f"no number of decimals shows {values} as they were decided on")


def _fixed(value: Fraction, places: int) -> str:
    """A fraction that has at most ``places`` decimals, written with exactly as many."""
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    text = f"{digits[:-places]}.{digits[-places:]}" if places else digits
    return f"-{text}" if value < 0 else text
