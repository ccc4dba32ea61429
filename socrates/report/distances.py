"""Distances: W of the baseline and of each checkpoint, between uniform guess and empirical best; other numbers."""

from __future__ import annotations

from collections.abc import Sequence

from socrates.console import Table
from socrates.report.part import SMALL, Material, Part, picture
from socrates.report.plot import DARK, LINE, Plot, short
from socrates.report.results_folders import NONE, Results, comparability_differences

_NUMBERS = (
    ("W, Wasserstein distance (0 best)", ("wasserstein_distance",)),
    ("W without a draw", ("wasserstein_expected",)),
    ("W on the stated scale", ("wasserstein_stated_scale",)),
    ("W of a uniform guess", ("bounds", "uniform_guess")),
    ("W at best (people against people)", ("bounds", "empirical_best")),
    ("share of the way to the best (1 best)", ("bounds", "share_of_the_way")),
    ("individual accuracy (1 best)", ("accuracy",)),
    ("accuracy of each question's average", ("bounds", "marginal_accuracy")),
    ("mean absolute error (0 best)", ("mae",)),
    ("root mean squared error (0 best)", ("rmse",)),
    ("correlation (1 best)", ("correlation",)),
    ("correlation within cells", ("correlation_within_cells",)),
    ("dispersion (model sd / human sd, 1 right)", ("dispersion",)),
    ("mass on valid answers (1 best)", ("valid_mass",)),
)
_SIDE_BY_SIDE = 2  # results in a table: what fits on a phone and on paper
_LEAST_HEIGHT = 0.06  # of the picture, in W
_STEPS_WITH_VALUES = 4  # points that get their number written beside them


def distances_part(material: Material) -> Part:
    """The picture over steps, a table of the results, and tables of all numbers."""
    subject = material.subject
    same = [one for one in material.all if not comparability_differences(one, subject)]
    lines = [
        "W is the mean over studies of the mean over cells, in units of each cell's human range: 0 where predicted and "
        "human answers are distributed alike, 1 at worst."
        + (" Vertical lines are 95% intervals." if material.subject.distance.limits else "")
    ]
    if left_out := [one.label for one in material.all if one not in same]:
        lines.append(
            f"Of other rows or settings, therefore not comparable and not in the picture: {', '.join(left_out)}."
        )
    share = subject.value("bounds", "share_of_the_way").percent()
    if share.value is not None:
        come = (
            f"{subject.label} has come {share.value:.0f}% of the way from the uniform guess to the empirical best"
            if share.value >= 0
            else f"{subject.label} is farther from people than the uniform guess, let alone the empirical best"
        )
        lines.append(f"{come}: human answers against as many sampled from these same people.")
    if subject.value("bounds", "uniform_guess").value is None:
        lines.append("These results have no bounds on their own rows; evaluate again with this version to get them.")
    missing = [name for name, keys in _NUMBERS if all(one.value(*keys).value is None for one in material.all)]
    tables = [_numbers_table(material.main, missing)]
    others = [one for one in material.evaluated if one is not subject]
    folded: dict[str, tuple[Table, ...]] = {}
    if others:
        tables.insert(0, _results_table(material.all))
        groups = (others[start : start + _SIDE_BY_SIDE] for start in range(0, len(others), _SIDE_BY_SIDE))
        folded["all numbers of the others"] = tuple(_numbers_table(group, missing) for group in groups)
    if missing:
        lines.append(f"Not in these results: {', '.join(name.split(' (')[0] for name in missing)}.")
    return Part("distances", "Wasserstein distance", tuple(lines), (_picture(material, same),), tuple(tables), folded)


def _numbers_table(results: Sequence[Results], missing: Sequence[str]) -> Table:
    rows = tuple((name, *(str(one.value(*keys)) for one in results)) for name, keys in _NUMBERS if name not in missing)
    labels = tuple(one.label for one in results)
    return Table(("number [95% interval]", *labels), rows, title=f"All numbers: {', '.join(labels)}")


def _results_table(results: Sequence[Results]) -> Table:
    rows = tuple(
        (
            one.label,
            NONE if one.step is None else f"{one.step:,}",
            str(one.distance),
            one.value("bounds", "share_of_the_way").percent().written(0),
        )
        for one in results
    )
    return Table(("results", "step", "W [95% interval]", "% of the way"), rows, title="W of all results")


def _picture(material: Material, results: Sequence[Results]) -> Plot:
    """W over training steps, or beside each other where these are no checkpoints."""
    baseline, subject = material.baseline, material.subject
    steps = [0 if one is baseline and one.step is None else one.step for one in results]
    by_step = None not in steps and len(set(steps)) == len(steps)
    if by_step:
        results = sorted(results, key=lambda one: one.step or 0)
    places = [float(one.step or 0) if by_step else float(index) for index, one in enumerate(results)]
    values = [one.distance for one in results]
    uniform, best = (subject.value("bounds", key).value for key in ("uniform_guess", "empirical_best"))

    def draw(axes) -> None:
        axes.plot(places, [value.value for value in values], color=DARK, linewidth=1.2 if by_step else 0)
        for place, one, value in zip(places, results, values, strict=True):
            filled = one is not baseline
            if value.limits:
                axes.vlines(place, *value.limits, color=DARK, linewidth=1.4)
                axes.plot([place, place], value.limits, "_", color=DARK, markersize=9)
            axes.plot(
                place,
                value.value,
                "o" if filled else "s",
                color=DARK,
                markerfacecolor=DARK if filled else "white",
                markeredgewidth=1.6,
                markersize=7,
            )
        few = len(results) <= _STEPS_WITH_VALUES
        for index, (place, value) in enumerate(zip(places, values, strict=True)):
            if few or index in (0, len(results) - 1) or results[index] is subject:
                top = value.limits[1] if value.limits else value.value
                axes.annotate(
                    f"{value.value:.3f}",
                    (place, top),
                    (0, 4 if value.limits else 7),
                    textcoords="offset points",
                    ha="center",
                    fontsize=SMALL,
                    bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
                )
        _bounds(axes, uniform, best)
        axes.set_ylabel("W")
        axes.margins(y=0.1)
        low, high = axes.get_ylim()
        if (lacking := _LEAST_HEIGHT - (high - low)) > 0:  # a small difference is not to look like a large one
            axes.set_ylim(low - lacking / 2, high + lacking / 2)
        width = (max(places) - min(places)) or 1
        axes.set_xlim(min(places) - 0.12 * width, max(places) + 0.12 * width)
        if by_step and len(results) > 1:
            axes.set_xlabel("training step" + (" (0: the baseline)" if baseline and baseline.step is None else ""))
            axes.xaxis.set_major_locator(_integers())
        else:
            axes.set_xticks(places, [short(one.label) for one in results])

    words = "; ".join(f"{one.label} {value.value:.3f}" for one, value in zip(results, values, strict=True))
    bounds = ", ".join(
        f"{name} {value:.3f}"
        for name, value in (("uniform guess", uniform), ("empirical best", best))
        if value is not None
    )
    alt = f"Points with 95% intervals: W of {words}." + (f" Lines: {bounds}." if bounds else "")
    return picture("W, lower is better", 3.1, draw, alt, name="distances")


def _bounds(axes, uniform: float | None, best: float | None) -> None:
    """The lines of the bounds, named at their right end."""
    for value, style, name in ((uniform, "--", "uniform\nguess"), (best, ":", "empirical\nbest")):
        if value is not None:
            axes.axhline(value, color=LINE, linewidth=1.2, linestyle=style)
            axes.annotate(
                name,
                (1, value),
                (4, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
                fontsize=SMALL,
            )


def _integers():
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5, integer=True)
