"""A decision as people read it and as `decision.json` records it: the guide's lines, then what they rest on.

Covers: a printed number never says another thing than the decision was made on. It gets as many decimals as that takes.
Does not cover: the decision (`gate.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from socrates.evaluation.gate import ROLES, THRESHOLD, Decision

_LIMIT = f"{THRESHOLD}%"
_SAME = "with other studies and people like these it would very likely be the same decision."
_DECIMALS = 400  # more than the smallest float has


def decision_text(decision: Decision) -> str:
    """The lines that the guide shows, then the supporting signals and the notes."""
    baseline, checkpoint = printed_distances(decision)
    lines = [
        "Wasserstein Distance:",
        f"  Baseline:    {baseline}",
        f"  Checkpoint:  {checkpoint}",
        f"  Improvement: {printed_improvement(decision)}%",
        "",
    ]
    if decision.go:
        lines += [f"✅ GO - Improvement ≥{_LIMIT}", "Proceed to full training!"]
    else:
        short = decision.improvement < THRESHOLD
        lines += [
            f"❌ NO-GO - Improvement <{_LIMIT}"
            if short
            else f"❌ NO-GO - Improvement ≥{_LIMIT}, but not significantly (--require-significant)",
            "DO NOT proceed to full training. Debug, adjust the config and retry Phase 1: see VALIDATION_CRITERIA.md.",
        ]
    lines += ["", *_interval_lines(decision)]
    if decision.worse_than_uniform:
        pair = decision.uniform_guess, decision.checkpoint
        guess, distance = _printed(*pair, decimals=3, said=lambda guess, distance: (guess > distance, guess < distance))
        lines += [
            "",
            f"⚠ No better than a uniform guess: the checkpoint scores {distance}, guessing {guess} on the same cells.",
            f"{_LIMIT} better than useless may still be useless.",
        ]
    lines += ["", "Supporting signals (reported, they do not decide):"]
    for name, signal in decision.signals.items():
        before, after = ("N/A" if signal[role] is None else f"{signal[role]:.3f}" for role in ROLES)
        lines.append(f"  {name + ':':<14}{before} -> {after}  {signal['verdict']}")
    lines += [line for note in decision.notes for line in ("", f"Note: {note}")]
    return "\n".join(lines)


def decision_record(decision: Decision) -> dict[str, Any]:
    """The decision as `decision.json` records it; the caller adds paths, hashes and the time."""
    return {
        "decision": decision.decision,
        "improvement_percent": float(decision.improvement),
        "improvement_printed": printed_improvement(decision) + "%",
        "threshold_percent": float(THRESHOLD),
        "baseline_wasserstein_distance": float(decision.baseline),
        "checkpoint_wasserstein_distance": float(decision.checkpoint),
        "improvement_ci95": decision.interval and [float(limit) for limit in decision.interval],
        "require_significant": decision.require_significant,
        "uniform_guess": float(decision.uniform_guess),
        "worse_than_uniform": decision.worse_than_uniform,
        "comparability": dict(decision.comparability),
        "supporting_signals": dict(decision.signals),
        "rows_seen": dict(decision.rows_seen),
        "notes": list(decision.notes),
    }


def printed_improvement(decision: Decision) -> str:
    """The improvement in percent: one decimal, more where that would cross the threshold or hide the sign."""
    return _printed(decision.improvement, decimals=1, said=lambda shown: (shown >= THRESHOLD, shown > 0, shown < 0))[0]


def printed_distances(decision: Decision) -> list[str]:
    """Both distances: three decimals, more where these would read as another decision or as equal."""

    def said(before: Fraction, after: Fraction) -> tuple[bool, ...]:
        return before > 0, before == after, after * 100 <= before * (100 - THRESHOLD)

    return _printed(decision.baseline, decision.checkpoint, decimals=3, said=said)


def _interval_lines(decision: Decision) -> list[str]:
    if decision.interval is None:
        return ["95% interval of the improvement: N/A (no cells.jsonl beside both metrics.json, or a single cell)"]
    low, high = decision.interval
    if low >= THRESHOLD:
        meaning = f"All of it is at or above {_LIMIT}: {_SAME}"
    elif high < THRESHOLD:
        meaning = f"All of it is below {_LIMIT}: {_SAME}"
    else:
        meaning = (
            f"It straddles {_LIMIT}: with other studies and people the decision could have been the other one. "
            "VALIDATION_CRITERIA.md says what more examples (--max-examples) can tell, and what they cannot."
        )
    printed = _printed(low, high, decimals=1, said=lambda *limits: [limit >= THRESHOLD for limit in limits])
    return ["95% interval of the improvement: {}% to {}%".format(*printed), meaning]


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
