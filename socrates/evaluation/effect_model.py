"""From a predicted effect to the human one in a new experiment: three numbers, and the interval that they give.

The true human mean of condition c of question q of study s is a_q + b_s x_c + u_c: x_c is the predicted mean, b_s, the
study's slope, is normal around ``slope`` with standard deviation ``slope_sd``, u_c is what no slope explains. So a
human effect, a difference of two conditions, is normal around slope x with variance slope_sd^2 x^2 + residual_sd^2.

Does not cover: outcomes of a study that fail together, residuals larger in some studies (`benchmarks/bench_effects.py`
says what that does), experiments unlike those evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from scipy.optimize import minimize
from scipy.special import stdtrit

from socrates.console import count
from socrates.errors import SocratesError
from socrates.evaluation.bootstrap import sorted_units
from socrates.schema import Recorded

if TYPE_CHECKING:
    from socrates.evaluation.effects import ComparedQuestion

Array = NDArray[np.float64]

LEAST_STUDIES = 6  # measured: from here on a 90% interval holds the truth in 87% or more
ROUNDING = 1e-12  # of the range: what is nearer to 0 than this is 0
_MOST = 10**6  # of what is computed with here
_Number = Annotated[float, Field(ge=-_MOST, le=_MOST)]
_Spread = Annotated[float, Field(ge=0, le=_MOST)]


class EffectModel(Recorded):
    """How human effects follow predicted ones, both in shares of the question's range of answers."""

    slope: _Number  # what a predicted effect must be multiplied by
    slope_ci95: Annotated[list[_Number], Field(min_length=2, max_length=2)]
    slope_standard_error: _Spread
    slope_sd: _Spread  # between studies
    residual_sd: _Spread  # of human effects around their study's slope, beyond what sampling people explains
    studies: int = Field(ge=LEAST_STUDIES, le=_MOST)  # whose predictions differ between conditions


def prediction_interval(
    effect: float | Array,
    standard_error: float | Array,
    model: EffectModel,
    level: float = 0.9,
    *,
    weights: float | Array = 2.0,
) -> tuple[float | Array, float | Array]:
    """What holds a new experiment's true human effect with probability ``level``; around ``model.slope * effect``.

    Student's, with two degrees of freedom fewer than studies (Higgins, Thompson and Spiegelhalter 2009, JRSS A 172).
    An experiment's own result differs from the true effect by the luck of its people, too. Effects are in shares of the
    range of answers; ``standard_error`` is the prediction's own, of which personas were asked (0: none);
    ``weights`` the sum of squares of the conditions' weights in the effect, 2 of a difference of two.

    Raises:
        SocratesError: ``level`` is not between 0 and 1, or a standard error below 0.
    """
    if not 0 < level < 1 or not np.all(np.asarray(standard_error) >= 0):
        raise SocratesError(f"prediction interval: needs a level between 0 and 1 (is {level}), no error below 0")
    of_slope = model.slope_sd**2 + model.slope_standard_error**2
    of_prediction = np.square(standard_error) * (model.slope**2 + of_slope)
    half = np.sqrt(of_slope * np.square(effect) + of_prediction + model.residual_sd**2 * (weights / 2))
    half = half * stdtrit(model.studies - 2, (1 + level) / 2)
    return model.slope * effect - half, model.slope * effect + half


def fit_model(questions: Sequence[ComparedQuestion]) -> EffectModel | str:
    """The model of questions that are sorted by study; a text: why there is none.

    The standard deviations maximise the restricted likelihood (Harville 1977, JASA 72), on which neither a_q nor the
    slope has any influence; the slope is by generalised least squares, its interval Student's as above.
    """
    if (informative := len({one.study_id for one in questions if np.ptp(one.expected) > ROUNDING})) < LEAST_STUDIES:
        studies = count(informative, "study", "studies")
        return f"predictions differ between conditions in {studies}, and {LEAST_STUDIES} are needed"
    if sum(len(one.conditions) - 1 for one in questions) < informative + LEAST_STUDIES:
        return "nearly every study has one comparison alone, which cannot tell its slope from what no slope explains"
    starts = np.cumsum([0, *(len(one.conditions) for one in questions[:-1])])
    x = np.hstack([one.expected for one in questions])
    y = np.hstack([one.human.mean - one.human.mean.mean() for one in questions])
    # Few people in a condition do not tell its variance; the question's conditions together do.
    noise = [((one.human.n - 1) @ one.human.variance) / (one.human.n - 1).sum() / one.human.n for one in questions]
    studies = starts[sorted_units([one.study_id for one in questions]).starts]
    restricted = partial(_restricted, x, y, np.hstack(noise), starts, studies)
    # The likelihood is even in both standard deviations: no bounds, on which the method may stay.
    found = minimize(lambda sds: restricted(*sds)[0], (0.5, y.std() / 2), method="Nelder-Mead", options={"xatol": 1e-6})
    slope_sd, sd = map(abs, map(float, found.x))
    _, slope, error = restricted(slope_sd, sd)
    half = float(stdtrit(informative - 2, 0.975)) * error
    numbers = (slope, [slope - half, slope + half], error, slope_sd, 2**0.5 * sd, informative)
    try:
        return EffectModel(**dict(zip(EffectModel.model_fields, numbers, strict=True)))
    except ValidationError:
        return "predictions differ too little between conditions to tell by what to multiply them"


def _restricted(
    x: Array, y: Array, noise: Array, starts: NDArray[np.int64], studies: NDArray[np.int64], slope_sd: float, sd: float
) -> tuple[float, float, float]:
    """-2 log restricted likelihood (but for a constant) with ``sd`` of u; slope; its standard error.

    With weights 1 / (sd^2 + s^2 / n), around questions' means: a study's slope xy / xx varies by slope_sd^2 + 1 / xx.
    """
    weight = 1 / (sd**2 + noise + ROUNDING**2)
    total = np.add.reduceat(weight, starts)
    sizes = np.diff(starts, append=len(x))
    x, y = (side - np.repeat(np.add.reduceat(weight * side, starts) / total, sizes) for side in (x, y))
    xx, xy, yy = (np.add.reduceat(weight * product, studies) for product in (x * x, x * y, y * y))
    spread = 1 + slope_sd**2 * xx
    precision = (xx / spread).sum()
    slope = (xy / spread).sum() / precision
    squares = yy.sum() - (slope_sd**2 * xy**2 / spread).sum() - slope**2 * precision
    logs = np.log(total).sum() - np.log(weight).sum() + np.log(spread).sum() + np.log(precision)
    return float(squares + logs), float(slope), float(precision**-0.5)
