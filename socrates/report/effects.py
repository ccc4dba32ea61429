"""Treatment effects: does the model move where people move, in the same direction and as far?"""

from __future__ import annotations

from typing import Any

import numpy as np

from socrates.report.html import Table
from socrates.report.plot import DARK, LINE, Plot, drawn, legend
from socrates.report.results_folders import Material, Results

_MOST_POINTS = 3000
_NUMBERS = {
    "correlation of effects (1 best, 0 chance)": "correlation",
    "… of a model that knew the true means": "correlation_ceiling",
    "… of a perfect simulator with as many draws": "correlation_empirical_best",
    "same direction, all pairs (0.5 chance)": "sign_agreement",
    "… of one half of the people with the other": "sign_agreement_halves",
    "same direction, clear human effects": "sign_agreement_clear",
    "… of one half with the other (chosen by both)": "sign_agreement_clear_halves",
    "slope, predicted on human effect": "slope",
    "slope without the people's noise (1 right)": "slope_corrected",
    "slope, human on predicted (to multiply by)": "prediction slope",
    "… its standard deviation between studies": "prediction slope_sd",
    "… spread of human effects around it": "prediction residual_sd",
}


def effects_part(material: Material) -> dict[str, Any]:
    """The scatter of effects, and the numbers of baseline and subject."""
    subject, results = material.subject, material.main
    rows = tuple((name, *(str(one.value("effects", *at.split())) for one in results)) for name, at in _NUMBERS.items())
    heads = ("number [95% interval]", *(one.label for one in results))
    return {
        "plots": () if subject.effects.empty else (_picture(subject),),
        "tables": (Table(heads, rows, title="Effects over all studies"),) if subject.metrics["effects"] else (),
    }


def _picture(subject: Results) -> Plot:
    pairs = subject.effects
    shown = pairs.sample(_MOST_POINTS, random_state=0) if len(pairs) > _MOST_POINTS else pairs
    human, drawn_answers = shown["human_effect_standardized"], shown["predicted_effect_standardized"]
    predicted = shown["expected_effect_standardized"].astype(float).fillna(drawn_answers)
    reach = float(np.abs(np.concatenate([human, predicted])).max()) * 1.06 or 1.0

    def draw(axes) -> None:
        axes.axhline(0, color="#999999", linewidth=0.7)
        axes.axvline(0, color="#999999", linewidth=0.7)
        axes.plot([-reach, reach], [-reach, reach], color=LINE, linewidth=1, linestyle="--", label="as people")
        for clear, face, name in ((False, "none", "not clear from 0"), (True, DARK, "clear human effect")):
            mask = shown["human_effect_clear"] == clear
            axes.plot(
                human[mask],
                predicted[mask],
                "o",
                color=DARK,
                markerfacecolor=face,
                markersize=4.5 if len(shown) < 300 else 3,
                markeredgewidth=0.6,
                label=name,
                rasterized=len(shown) > 600,
            )
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel="human effect", ylabel="predicted effect")
        axes.set_aspect("equal")
        legend(axes)

    same = (np.sign(human) == np.sign(predicted))[human != 0]
    of = f"{len(shown):,} of {len(pairs):,}, chosen at random" if len(shown) < len(pairs) else f"{len(pairs):,}"
    alt = (
        f"Scatter: predicted against human effect of {of} pairs of conditions, {subject.label}, with the line on which "
        f"both are equal; {100 * same.mean() if len(same) else 0:.0f}% have the same sign."
    )
    return drawn("Predicted against human effects", 4.6, draw, alt, name="effects")
