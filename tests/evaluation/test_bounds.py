"""What guesses and people resampled score, and how many people a distance is worth, against literal draws."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from socrates.data.records import Cell
from socrates.data.scales import Scale
from socrates.evaluation.bounds import PEOPLE, worth_people
from socrates.evaluation.cells import Distribution, ScoredRow
from socrates.evaluation.metrics import score

SCALES = [tuple(range(1, 8)), tuple(range(1, 6)), (1, 2, 8), tuple(range(101))]
PRIORS = {
    "1 to 7": {"1": 0.5, "4": 0.2, "7": 0.3},
    "1 to 5": {"2": 1.0},
    "0 to 100": {str(10 * k): 1 / 11 for k in range(11)},
}


@pytest.fixture(scope="module")
def made():
    """Rows of a model, all human answers of each cell, and their scores; of a study two questions in two conditions."""
    rng = np.random.default_rng(0)
    rows, people = [], {}
    for study in range(8):
        for condition in (1, 2):
            for task in (1, 2):
                scale = SCALES[(study + task) % len(SCALES)]
                cell = Cell(f"s{study}", condition, task)
                answers = rng.choice(scale, size=int(rng.integers(8, 60)), p=rng.dirichlet(np.ones(len(scale))))
                people[cell] = dict(Counter(answers.tolist()))
                shares = tuple(rng.dirichlet(np.ones(len(scale))))
                rows += [
                    ScoredRow(cell, float(one), scale[0], Distribution(scale, shares), scale) for one in answers[:5]
                ]
    return rows, people, score(rows, people, priors=PRIORS)


def drawn(people, guess_of, draws_of):
    """Mean over cells, then studies, of the distance of so many answers drawn from a guess, by scipy; 1,000 draws."""
    rng = np.random.default_rng(1)
    studies = {}
    for cell, answers in people.items():
        human = np.repeat(list(answers), list(answers.values()))
        low, span = human.min(), np.ptp(human)
        values, shares = guess_of(cell, answers)
        samples = rng.choice(values, size=(1000, draws_of(len(human))), p=shares)
        z = np.clip((samples - low) / span, 0, 1)
        found = [wasserstein_distance((human - low) / span, one) for one in z]
        studies.setdefault(cell.study_id, []).append(np.mean(found))
    return np.mean([np.mean(found) for found in studies.values()])


def shares_of(counts):
    return list(counts), np.array(list(counts.values())) / sum(counts.values())


def test_the_bounds_are_what_literal_draws_score(made):
    _, people, scores = made

    def of_prior(cell, answers):
        scale = SCALES[(int(cell.study_id[1:]) + cell.task_num) % len(SCALES)]
        prior = PRIORS.get(str(Scale(scale)), dict.fromkeys(map(str, scale), 1 / len(scale)))
        return [int(answer) for answer in prior], list(prior.values())

    def pooled(cell, answers):
        both = Counter()
        for condition in (1, 2):
            both.update(people[cell._replace(condition_num=condition)])
        return shares_of(both)

    def own(cell, answers):
        return shares_of(answers)

    bounds = scores.bounds
    assert bounds.scale_prior == pytest.approx(drawn(people, of_prior, int), abs=1e-3)
    assert bounds.pooled_conditions == pytest.approx(drawn(people, pooled, int), abs=1e-3)
    assert bounds.people_5 == pytest.approx(drawn(people, own, lambda n: 5), abs=1e-3)
    assert bounds.people_20 == pytest.approx(drawn(people, own, lambda n: 20), abs=1e-3)
    assert bounds.empirical_best == pytest.approx(drawn(people, own, int), abs=1e-3)
    # As many people as the model is worth score what it does: between the two whole numbers next to it.
    worth = int(bounds.worth_people)
    fewer, more = (drawn(people, own, lambda n, number=number: number) for number in (worth, worth + 1))
    assert more - 1e-3 < scores.metrics.wasserstein_distance < fewer + 1e-3


def test_people_of_a_condition_that_is_not_asked_count_in_the_pool_and_are_kept(made):
    rows, people, every = made
    some = score([row for row in rows if row.cell.condition_num == 1], people)
    by_cell = {cell.cell: cell.pooled_conditions for cell in every.cells}
    assert {cell.cell: cell.pooled_conditions for cell in some.cells} == {c: by_cell[c] for c in by_cell if c[1] == 1}
    assert [(cell.cell, cell.skipped) for cell in some.not_asked] == [
        (c, "not asked") for c in sorted(people) if c[1] == 2
    ]
    assert some.coverage.cells == len(some.cells) == 16


def test_without_priors_that_bound_is_not_known_and_a_scale_without_one_is_guessed_uniformly(made):
    rows, people, _ = made
    assert score(rows, people).bounds.scale_prior is None
    assert score(rows, people, priors={"1 to 9": {"1": 1.0}}).bounds.scale_prior is None
    cells = score(rows, people, priors={"1 to 7": {"1": 1.0}}).cells
    assert {cell.scale for cell in cells if cell.scale_prior == cell.uniform_guess} == set(SCALES[1:])


def test_how_many_people_a_distance_is_worth():
    people = np.array([0.3 / np.sqrt(PEOPLE)])  # falls as a standard error does

    def worth(distance):
        return worth_people(np.array([distance]), people)[0]

    assert [worth(0.3 / np.sqrt(n)) for n in (1, 2.5, 7, 300)] == pytest.approx([1, 2.5, 7, 300])
    assert (worth(0.31), worth(0.001), worth(0.0)) == (0, 10_000, 10_000)
