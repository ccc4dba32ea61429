"""Does an answer that the model gives 30% occur 30% of the time?"""

from __future__ import annotations

import numpy as np

from socrates.console import Table, share
from socrates.files import finite
from socrates.report.answers import BINS, Calibration
from socrates.report.part import SMALL, Material, Part, picture
from socrates.report.plot import DARK, EDGE, LIGHT, LINE, Plot, short
from socrates.report.results_folders import Results, Value, section_of


def calibration_part(material: Material) -> Part:
    """The curve of the subject and of the baseline, how many answers each bin holds, and a table."""
    subject, title = material.subject, "Calibration"
    calibration = material.calibrations.get(subject.label)
    if calibration is None:
        why = "has no predictions.jsonl" if not subject.predictions.exists() else "has no rows with a distribution"
        return Part("calibration", title, (f"{subject.folder} {why}, so calibration is not shown.",))
    lines = [
        "For each answer that the model may give: the probability that it has, against how often the person gave it. "
        "On the dashed line both are equal; below it the model is too sure. Vertical lines are 95% intervals, studies "
        "resampled.",
        decoding_in_words(subject),
        f"In {share(calibration.missed, calibration.rows)} of {calibration.rows:,} rows the person's answer has no "
        "probability at all.",
    ]
    if calibration.rows_without:
        lines.append(f"{calibration.rows_without:,} rows without a distribution are not counted.")
    shown = [(one, found) for one in material.main if (found := material.calibrations.get(one.label))]
    lines.append(
        "Calibration error (mean distance from the line, each answer weighted by its probability): "
        + ", ".join(f"{one.label} {found.error:.3f}" for one, found in shown)
        + "."
    )
    tables = (_table(subject, calibration),)
    folded = {f"that of {one.label}": (_table(one, found),) for one, found in shown if one is not subject}
    return Part("calibration", title, tuple(lines), (_picture(material, shown),), tables, folded)


def decoding_in_words(subject: Results) -> str:
    """What was done to the probabilities that are shown."""
    decoding = section_of(subject.metrics, "comparability").get("decoding")
    temperature, top_p = (
        finite(decoding.get(key)) if isinstance(decoding, dict) else None for key in ("temperature", "top_p")
    )
    if temperature is not None and top_p is not None:
        paper = ", as the paper asks its models" if (temperature, top_p) == (0.6, 0.9) else ""
        words = f"The probabilities are those after decoding (temperature {temperature:g}, top-p {top_p:g}){paper}."
        if temperature < 1 or top_p < 1:
            words += (
                " That sharpens them, so a curve flatter than the line is expected even of a model that is calibrated "
                "before decoding."
            )
        return words
    return "Decoding may have sharpened these probabilities; how they were made is not recorded."


def _bin_names() -> list[str]:
    return [f"{100 * low // BINS}–{100 * (low + 1) // BINS}%" for low in range(BINS)]


def _table(results: Results, calibration: Calibration) -> Table:
    rows = tuple(
        (
            name,
            f"{answers:,}",
            Value(probability if answers else None).percent().written(1),
            Value(frequency if answers else None, limits).percent().written(1),
        )
        for name, answers, probability, frequency, limits in zip(
            _bin_names(),
            calibration.answers.tolist(),
            calibration.probability.tolist(),
            calibration.frequency.tolist(),
            calibration.limits,
            strict=True,
        )
    )
    heads = ("probability", "answers", "mean, %", "given, % [95% interval]")
    return Table(heads, rows, title=f"Calibration: {results.label}")


def _picture(material: Material, shown: list[tuple[Results, Calibration]]) -> Plot:
    own = material.calibrations[material.subject.label]

    def draw(axes) -> None:
        upper, lower = axes
        upper.plot([0, 1], [0, 1], color=LINE, linewidth=1, linestyle="--")
        for one, found in shown:
            some = found.answers > 0
            main = one is material.subject
            if main:
                for place, limits in zip(found.probability, found.limits, strict=True):
                    if limits is not None:
                        upper.vlines(place, *limits, color=DARK, linewidth=1.3)
            upper.plot(
                found.probability[some],
                found.frequency[some],
                "o-" if main else "s:",
                color=DARK if main else LINE,
                markerfacecolor=DARK if main else "white",
                markersize=5,
                linewidth=1.4 if main else 1,
                label=short(one.label),
            )
        _percent_axes(upper.yaxis)
        upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="people gave it")
        upper.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1], [])
        upper.figure.legend(loc="outside lower left", ncols=2)
        middles = (np.arange(BINS) + 0.5) / BINS
        lower.bar(middles, np.maximum(own.answers, 0.8), 0.09, bottom=0, color=LIGHT, **EDGE)
        lower.set_yscale("log")
        lower.set(xlim=(0, 1), ylim=(0.8, None), ylabel="answers", xlabel="the model's probability of an answer")
        _percent_axes(lower.xaxis)
        lower.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        for one in axes:
            one.tick_params(labelsize=SMALL)

    words = ", ".join(
        f"{name} {100 * frequency:.0f}%"
        for name, answers, frequency in zip(_bin_names(), own.answers, own.frequency, strict=True)
        if answers
    )
    alt = f"Curve: how often people gave answers by the probability that {material.subject.label} gave them: {words}."
    return picture("Probability against frequency", 4.6, draw, alt, rows=2, ratios=(3, 1), name="calibration")


def _percent_axes(axis) -> None:
    axis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
