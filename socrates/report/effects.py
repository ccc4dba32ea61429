"""Treatment effects: does the model move where people move, in the same direction and as far?"""

from __future__ import annotations

import numpy as np

from socrates.console import Table
from socrates.files import finite
from socrates.report.part import SMALL, Material, Part, picture
from socrates.report.plot import DARK, LINE, Plot
from socrates.report.results_folders import Results, fixed, section_of, value_at

_MOST_POINTS = 3000
_NUMBERS = (
    ("correlation of effects (1 best, 0 chance)", "correlation"),
    ("… of a model that knew the true means", "correlation_ceiling"),
    ("… of a perfect simulator with as many draws", "correlation_empirical_best"),
    ("same direction, all pairs (0.5 chance)", "sign_agreement"),
    ("same direction, clear human effects", "sign_agreement_clear"),
    ("slope, predicted on human effect", "slope"),
    ("slope without the people's noise (1 right)", "slope_corrected"),
)


def effects_part(material: Material) -> Part:
    """The scatter of effects, the numbers of baseline and subject, and a table by study."""
    subject, title = material.subject, "Treatment effects"
    records = [(one.label, section_of(one.metrics, "effects")) for one in material.main]
    if not subject.effects and not any(record for _, record in records):
        return Part("effects", title, (f"{subject.folder} has no effects.jsonl, so no effects are shown.",))
    lines = [
        "An effect is the mean answer in one condition minus that in another, of one question, in shares of the "
        "question's range of answers. A human effect is clear where its 95% interval excludes 0.",
        *_in_words(subject),
    ]
    tables = []
    if any(record for _, record in records):
        rows = tuple((name, *(str(value_at(record, key)) for _, record in records)) for name, key in _NUMBERS)
        labels = tuple(label for label, _ in records)
        tables.append(Table(("number [95% interval]", *labels), rows, title="Effects over all studies"))
    if studies := _studies(subject):
        heads = ("study", "pairs", "clear", "right sign", "of clear", "r")
        tables.append(Table(heads, studies, title=f"Effects by study (r: correlation): {subject.label}"))
    plots = (_picture(subject),) if subject.effects else ()
    return Part("effects", title, tuple(lines), plots, tuple(tables), most=12)


def _in_words(subject: Results) -> list[str]:
    record = section_of(subject.metrics, "effects")
    if not record:
        return []
    agreement, correlation = value_at(record, "sign_agreement_clear"), value_at(record, "correlation")
    lines = []
    if agreement.value is not None:
        clear = finite(record.get("clear_pairs"))
        of = "" if clear is None else f" ({clear:,.0f} pairs of conditions)"
        lines.append(
            f"Of the clear human effects{of}, {subject.label} gets {100 * agreement.value:.0f}% in the right "
            "direction; half would be chance."
        )
    if correlation.value is not None:
        lines.append(f"Its effects correlate with the human ones by {correlation.in_words(2)}.")
    return lines


def _studies(subject: Results) -> tuple[tuple[str, ...], ...]:
    """A row a study, those with most clear effects first; none where the answers of cells are not recorded."""
    from socrates.evaluation.effects import CellAnswers, effects_by_study, find_questions

    cells = [CellAnswers(one.cell, one.human, one.sampled, one.scale) for one in subject.cells if one.human]
    studies = effects_by_study(find_questions(cells)[0])
    studies.sort(key=lambda study: (-study["clear_pairs"], -study["pairs"], study["study_id"]))
    return tuple(
        (
            study["study_id"],
            f"{study['pairs']:,}",
            f"{study['clear_pairs']:,}",
            _percent(study["sign_agreement"]),
            _percent(study["sign_agreement_clear"]),
            fixed(study["correlation"], 2),
        )
        for study in studies
    )


def _percent(share: float | None) -> str:
    return fixed(None) if share is None else f"{100 * share:.0f}%"


def _picture(subject: Results) -> Plot:
    pairs = subject.effects
    human, predicted, clear = (np.array(column) for column in zip(*pairs, strict=True))
    if len(pairs) > _MOST_POINTS:
        chosen = np.random.default_rng(0).choice(len(pairs), _MOST_POINTS, replace=False)
        human, predicted, clear = human[chosen], predicted[chosen], clear[chosen]
    reach = float(np.abs(np.concatenate([human, predicted])).max()) * 1.06 or 1.0

    def draw(axes) -> None:
        axes.axhline(0, color="#999999", linewidth=0.7)
        axes.axvline(0, color="#999999", linewidth=0.7)
        axes.plot([-reach, reach], [-reach, reach], color=LINE, linewidth=1, linestyle="--", label="as people")
        size = 4.5 if len(human) < 300 else 3
        for mask, filled, name in ((~clear, False, "not clear from 0"), (clear, True, "clear human effect")):
            axes.plot(
                human[mask],
                predicted[mask],
                "o",
                color=DARK,
                markerfacecolor=DARK if filled else "none",
                markersize=size if filled else size - 0.5,
                markeredgewidth=0.6,
                alpha=0.85,
                label=name,
                rasterized=len(human) > 600,
            )
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel="human effect", ylabel="predicted effect")
        axes.set_aspect("equal")
        axes.tick_params(labelsize=SMALL)
        axes.figure.legend(loc="outside lower left", ncols=3, columnspacing=0.9, handletextpad=0.3)

    of = f"{len(human):,} of {len(pairs):,}, chosen at random" if len(human) < len(pairs) else f"{len(pairs):,}"
    same = np.sign(human) == np.sign(predicted)
    alt = (
        f"Scatter: predicted against human effect of {of} pairs of conditions, {subject.label}, with the line on which "
        f"both are equal; {100 * same[human != 0].mean() if (human != 0).any() else 0:.0f}% have the same sign."
    )
    return picture("Predicted against human effects", 4.6, draw, alt, name="effects")
