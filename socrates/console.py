"""Terminal output: progress bars (on a terminal only), numbers, time spans, exit statuses in words."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], what: str, *, total: int | None = None, unit: str = " rows") -> Iterable[Item]:
    """The items, with a bar on standard error that says ``what`` is being done; silent where that is no terminal."""
    from tqdm import tqdm

    return tqdm(items, desc=what, total=total, unit=unit, disable=not sys.stderr.isatty())


def duration(seconds: float) -> str:
    """A time span in words: "40 s", "12 min", "5 h 07 min", "2 d 3 h"."""
    if seconds < 100:
        return f"{max(seconds, 0):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 100 else f"{hours // 24} d {hours % 24} h"


def describe_exit(status: int) -> str:
    """An exit status in words. DeepSpeed's launcher passes "killed by signal 9" on as 256 - 9."""
    if status == 0:
        return "it ended without an error but without its last checkpoint (was its launcher killed?)"
    number = -status if status < 0 else 256 - status if status > 256 - 65 else status - 128 if status > 128 else 0
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"it ended with exit status {status}"
    hint = "; for want of memory? see dmesg" if name == "SIGKILL" else ""
    return f"it ended with exit status {status} (killed by {name}{hint})"


def number(value: float) -> str:
    """With commas between the thousands; a fraction with one digit."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def count(value: int, what: str, many: str = "") -> str:
    """How many of something: 1 row, 2 rows, no rows; ``many`` where the plural takes no s."""
    return f"{number(value) if value else 'no'} {what if value == 1 else many or what + 's'}"


def share(part: int, total: int) -> str:
    """A percentage that is 0% or 100% only where it is exactly that."""
    percent = 100 * part / total if total else 0.0
    if 0 < percent < 0.1:
        return "<0.1%"
    if 99.9 < percent < 100:
        return ">99.9%"
    return f"{percent:.0f}%" if part in (0, total) else f"{percent:.1f}%"


NUMBERS = {
    "wasserstein_distance": "Wasserstein distance",
    "wasserstein_drawn": "  of drawn answers",
    "wasserstein_stated_scale": "  on the stated scale",
    "wasserstein_calibrated": "  calibrated",
    "uniform_guess": "  a uniform guess",
    "scale_prior": "  the scale's prior",
    "pooled_conditions": "  conditions pooled",
    "people_5": "  5 people",
    "people_20": "  20 people",
    "empirical_best": "  empirical best",
    "worth_people": "  worth in people",
    "mae": "MAE",
    "rmse": "RMSE",
    "correlation": "Correlation",
    "correlation_within_cells": "  within cells",
    "accuracy": "Accuracy",
    "marginal_accuracy": "  of cell averages",
    "dispersion": "Dispersion",
}
NOMINAL = {  # of nominal outcomes, where there are some
    "nominal_total_variation": "Total variation, nominal",
    "nominal_uniform_guess": "  a uniform guess",
    "nominal_empirical_best": "  empirical best",
}
DIGITS = {"worth_people": 1}  # of a number in the tables, where not the usual ones
_WIDTH = max(map(len, (NUMBERS | NOMINAL).values())) + 2


def number_lines(metrics: Mapping[str, Any]) -> list[str]:
    """One line a number of a `metrics.json`: its name, its value, its interval; N/A where it is not defined."""
    numbers = all_numbers(metrics)
    return [
        f"{name + ':':<{_WIDTH}}{with_interval(numbers[key], numbers[f'{key}_ci95'], DIGITS.get(key, 4))}"
        for key, name in (NUMBERS | NOMINAL).items()
        if key in numbers
    ]


def all_numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a `metrics.json` by the keys of `NUMBERS` and `NOMINAL`, with their intervals."""
    nominal = {f"nominal_{key}": number for key, number in (metrics.get("nominal") or {}).items()}
    return {**metrics, **metrics["bounds"], **nominal}


def with_interval(value: float | None, interval: list[float] | None, digits: int = 4) -> str:
    """A number and its interval: "0.1853  [0.1701, 0.2010]"."""
    if value is None:
        return "N/A"
    shown = [f"{one:,.{digits}f}" for one in (value, *(interval or ()))]
    return shown[0] + ("" if interval is None else f"  [{shown[1]}, {shown[2]}]")


def people_worth(number: float) -> str:
    """`worth_people` in words: as close as 3.2 people drawn at random."""
    if number < 1:
        return "further off than one person drawn at random"
    return f"as close as {f'{number:,.1f}' if number < 10_000 else '10,000 or more'} people drawn at random"


def worse_than_uniform(metrics: Mapping[str, Any]) -> str | None:
    """A sentence for a model that does no better than a uniform guess on the same cells; None for one that does."""
    distance, guess = metrics["wasserstein_distance"], metrics["bounds"]["uniform_guess"]
    if distance is None:  # all outcomes are nominal
        distance, guess = (metrics["nominal"][name] for name in ("total_variation", "uniform_guess"))
    if distance < guess:
        return None
    return f"no better than a uniform guess, which scores {guess:.4f} on these cells, and the model {distance:.4f}"


def coverage_notes(coverage: Mapping[str, Any]) -> list[str]:
    """Answers that do not count as they stand, or perhaps should not; of the coverage in a `metrics.json`."""
    far = ", ".join(f"{answer} ({people}×)" for answer, people in coverage["far_answers"].items())
    drawn = coverage["cells_drawn"] if coverage["cells_drawn"] < coverage["cells_scored"] else 0
    notes = {
        "cells scored from answers as they are, as not all come with probabilities": drawn,
        "missing answers (refused, don't know, not applicable), left out": coverage["missing_answers"],
        "answers far from the rest of their scale (if they are missing ones, let the question say so)": far,
        "predictions outside the scale, counted as the end of people's range": coverage["predictions_outside"],
    }
    if of_many := coverage["rows_of_many"]:
        persons = "MAE, RMSE, correlations, accuracy and groups need persons, and are without them"
        notes[f"rows that hold the answers of many people ({persons})"] = of_many
    return [f"{what}: {found}" for what, found in notes.items() if found]
