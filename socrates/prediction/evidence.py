"""How far a model's predictions may be believed: what its evaluation on held-out studies found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from socrates.errors import SocratesError
from socrates.report.values import Value, finite, value_at
from socrates.results import METRICS, read_metrics


@dataclass(frozen=True)
class Evidence:
    """An evaluation of the model that predicts.

    Attributes:
        folder: of its results.
        metrics: the content of `metrics.json`.
    """

    folder: Path
    metrics: Mapping[str, Any]

    def value(self, *keys: str) -> Value:
        """A number of it, with its interval; without a value where it is not recorded."""
        return value_at(self.metrics, *keys)

    def count(self, *keys: str) -> int | None:
        """A whole number of it."""
        value = self.value(*keys).value
        return None if value is None else int(value)

    @property
    def seen_rows(self) -> int | None:
        """Judging rows that the model may have been trained on; None: not recorded."""
        return self.count("seen", "rows")

    @property
    def decoding(self) -> str:
        """What was done to the model's probabilities, in words."""
        temperature, top_p = (self.value("comparability", "decoding", key).value for key in ("temperature", "top_p"))
        return "not recorded" if temperature is None or top_p is None else decoding_text(temperature, top_p)

    @property
    def useless(self) -> bool:
        """Whether it did no better than a uniform guess."""
        distance, guess = self.value("wasserstein_distance").value, self.value("bounds", "uniform_guess").value
        return distance is not None and guess is not None and distance >= guess


def decoding_text(temperature: float, top_p: float) -> str:
    """A decoding in words."""
    return f"temperature {temperature:g}, top-p {top_p:g}"


def read_evidence(folder: Path, model: str, fingerprint: str) -> Evidence:
    """Read the results of an evaluation of this very model.

    Args:
        folder: results folder.
        model: what the user calls the model.
        fingerprint: of its files (`model_files.fingerprint`).

    Raises:
        SocratesError: no results there, or those of another model.
    """
    file = folder if folder.name == METRICS else folder / METRICS
    metrics = read_metrics(file)
    about = metrics.get("about")
    about = about if isinstance(about, Mapping) else {}
    asked = about.get("asked")
    if not isinstance(asked, Mapping) or not isinstance(asked.get("model"), str):
        raise SocratesError(f"--results {folder}: {file} does not record which model it judged; evaluate {model} again")
    if asked["model"] != fingerprint:
        raise SocratesError(
            f"--results {folder}: are results of another model ({about.get('model')}), not of {model}; name those of "
            "this model, or leave --results out"
        )
    if finite(metrics.get("wasserstein_distance")) is None:
        raise SocratesError(f'--results {folder}: {file}: "wasserstein_distance" is no number; evaluate again')
    return Evidence(file.parent, metrics)
