"""A results folder's numbers as the lines that scripts print: each with its 95% interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NUMBERS = {
    "wasserstein_distance": "Wasserstein distance",
    "wasserstein_expected": "  without a draw",
    "wasserstein_stated_scale": "  on the stated scale",
    "uniform_guess": "  a uniform guess",
    "empirical_best": "  empirical best",
    "share_of_the_way": "  share of the way",
    "mae": "MAE",
    "rmse": "RMSE",
    "correlation": "Correlation",
    "correlation_within_cells": "  within cells",
    "accuracy": "Accuracy",
    "marginal_accuracy": "  of cell averages",
    "dispersion": "Dispersion",
}
_WIDTH = max(map(len, NUMBERS.values())) + 2


def number_lines(metrics: Mapping[str, Any]) -> list[str]:
    """One line a number of a `metrics.json`: its name, its value, its interval; N/A where it is not defined."""
    numbers = {**metrics, **metrics["bounds"]}
    return [
        f"{name + ':':<{_WIDTH}}{with_interval(numbers[key], numbers[f'{key}_ci95'])}" for key, name in NUMBERS.items()
    ]


def with_interval(value: float | None, interval: list[float] | None) -> str:
    """A number and its interval: "0.1853  [0.1701, 0.2010]"."""
    if value is None:
        return "N/A"
    return f"{value:.4f}" + ("" if interval is None else f"  [{interval[0]:.4f}, {interval[1]:.4f}]")


def worse_than_uniform(metrics: Mapping[str, Any]) -> str | None:
    """A sentence for a model that does no better than a uniform guess on the same cells; None for one that does."""
    distance, guess = metrics["wasserstein_distance"], metrics["bounds"]["uniform_guess"]
    if distance < guess:
        return None
    return f"no better than a uniform guess, which scores {guess:.4f} on these cells, and the model {distance:.4f}"
